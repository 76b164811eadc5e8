//! Refuses modules that would take the compiler too much memory or time: compiling cannot be interrupted.
//!
//! The compiler's memory grows with the length of a function and with blocks times local variables. Of modules written
//! to hurt it, the worst within these limits took 0.4 GB and 4 s for a function; without them one of 7 MB took 14 GB
//! and did not end within five minutes.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Bytes of code in one function.
const MAX_BODY: usize = 256 << 10;
/// Units in one function: see [`units`].
const MAX_UNITS: u64 = 6_000_000;
/// Units in all functions together.
const MAX_TOTAL: u64 = 600_000_000;
/// What a block costs beside its variables, counted in variables.
const BLOCK: u64 = 300;

/// Why `module` should not be compiled, if so. A module that cannot be read passes: the compiler says better why.
pub(super) fn refusal(module: &[u8]) -> Option<String> {
    let mut total: u64 = 0;
    let mut index = 0;
    for payload in Parser::new(0).parse_all(module) {
        let Ok(payload) = payload else { return None };
        let Payload::CodeSectionEntry(body) = payload else { continue };
        let length = body.range().len();
        if length > MAX_BODY {
            return Some(format!("its function {index} has {length} bytes of code, the limit is {MAX_BODY}"));
        }
        let units = units(&body).ok()?;
        total = total.saturating_add(units);
        if units > MAX_UNITS {
            return Some(format!(
                "its function {index} has too many branches for its {length} bytes of code and its variables"
            ));
        }
        if total > MAX_TOTAL {
            return Some("its functions have too many branches in all".to_owned());
        }
        index += 1;
    }
    None
}

/// Places where the flow of control splits or meets, times variables.
fn units(body: &FunctionBody<'_>) -> wasmparser::Result<u64> {
    let mut variables: u64 = 0;
    for group in body.get_locals_reader()? {
        variables += u64::from(group?.0);
    }
    let mut blocks: u64 = 1;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        blocks += match operators.read()? {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } | Operator::Else => 1,
            Operator::Br { .. } | Operator::BrIf { .. } => 1,
            Operator::BrTable { targets } => u64::from(targets.len()),
            _ => 0,
        };
    }
    Ok(blocks.saturating_mul(variables.saturating_add(BLOCK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(locals: usize, body: &str, repeat: usize) -> Vec<u8> {
        let (locals, body) = ("i32 ".repeat(locals), body.repeat(repeat));
        wat::parse_str(format!("(module (memory 1) (func (export \"_start\") (local {locals}) {body}))")).unwrap()
    }

    const LOOP: &str = "(loop (br_if 0 (i32.const 0)))";

    #[test]
    fn functions_that_would_hurt_the_compiler_are_refused() {
        assert_eq!(refusal(&module(0, LOOP, 5_000)), None);
        let many = refusal(&module(0, LOOP, 20_000)).unwrap();
        assert!(many.starts_with("its function 0 has too many branches"), "{many}");
        assert_eq!(refusal(&module(300, LOOP, 2_000)), None);
        assert!(refusal(&module(2_000, LOOP, 2_000)).is_some(), "variables count");
        let long = refusal(&module(0, "(drop (i32.const 1))", 100_000)).unwrap();
        assert!(long.ends_with("the limit is 262144"), "{long}");
    }

    #[test]
    fn many_functions_add_up() {
        let function = format!("(func {})", LOOP.repeat(9_000));
        let module = |count: usize| wat::parse_str(format!("(module {})", function.repeat(count))).unwrap();
        assert_eq!(refusal(&module(100)), None);
        assert_eq!(refusal(&module(120)).unwrap(), "its functions have too many branches in all");
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_compiler() {
        assert_eq!(refusal(b"no module"), None);
        let whole = module(0, LOOP, 10);
        assert_eq!(refusal(&whole[..whole.len() - 5]), None);
    }
}
