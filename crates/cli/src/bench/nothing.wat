;; The app of the benches that run apps: it computes nothing, and leaves a result that all workers agree on.
(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 64) "result.txt")
    (data (i32.const 96) "nothing\0a")
    (data (i32.const 128) "computed.json")
    (data (i32.const 160) "{\"deterministic-output-path\":\"/iexec_out/result.txt\"}")
    ;; Writes a file below /iexec_out, which is descriptor 4. The new file's descriptor is at 0, the buffer's at 8.
    (func $file (param $path i32) (param $path_length i32) (param $text i32) (param $text_length i32)
        (if (call $path_open (i32.const 4) (i32.const 0) (local.get $path) (local.get $path_length)
            (i32.const 1) (i64.const 66) (i64.const 66) (i32.const 0) (i32.const 0)) (then unreachable))
        (i32.store (i32.const 8) (local.get $text))
        (i32.store (i32.const 12) (local.get $text_length))
        (if (call $fd_write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 16)) (then unreachable)))
    (func (export "_start")
        (call $file (i32.const 64) (i32.const 10) (i32.const 96) (i32.const 8))
        (call $file (i32.const 128) (i32.const 13) (i32.const 160) (i32.const 53))))
