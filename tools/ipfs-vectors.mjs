// Writes the test vectors of bourse_protocol::ipfs: ids of patterned files as the JavaScript IPFS importer gives them
// with kubo's defaults, and with tiny chunks and nodes so that deep trees are covered too.
// Usage: node tools/ipfs-vectors.mjs <folder that holds node_modules> > crates/protocol/tests/vectors/ipfs.json
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { resolve } from 'node:path'

const root = createRequire(resolve(process.argv[2] ?? '.', 'package.json'))
const load = (name) => import(pathToFileURL(root.resolve(name)))
const { importer } = await load('ipfs-unixfs-importer')
const { fixedSize } = await load('ipfs-unixfs-importer/chunker')
const { balanced } = await load('ipfs-unixfs-importer/layout')

const CHUNK = 262144
const LINKS = 174
const PIECE = 1 << 20

// Blocks are not kept: only the root's id and sizes are of interest.
const sink = { put: async (cid) => cid, has: async () => false, get: async () => { throw new Error('not kept') } }

// Byte i is the exclusive or of the four bytes of i: no two chunks are alike.
function * patterned (size) {
  for (let start = 0; start < size; start += PIECE) {
    const piece = new Uint8Array(Math.min(PIECE, size - start))
    for (let j = 0; j < piece.length; j++) {
      const i = start + j
      piece[j] = i ^ (i >>> 8) ^ (i >>> 16) ^ (i >>> 24)
    }
    yield piece
  }
}

async function vector (chunk, links, size) {
  let last
  const options = {
    rawLeaves: false,
    leafType: 'file',
    cidVersion: 0,
    reduceSingleLeafToSelf: true,
    chunker: fixedSize({ chunkSize: chunk }),
    layout: balanced({ maxChildrenPerNode: links })
  }
  for await (const entry of importer([{ path: 'f', content: patterned(size) }], sink, options)) last = entry
  return { chunk, links, size, cid: last.cid.toString(), tree: Number(last.size) }
}

const vectors = []
for (const size of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, LINKS * CHUNK, LINKS * CHUNK + 1]) {
  vectors.push(await vector(CHUNK, LINKS, size))
}
for (let size = 0; size <= 40; size++) vectors.push(await vector(1, 3, size))
for (const size of [1, 4, 5, 12, 13, 36, 37, 108, 109, 324, 325, 1000]) vectors.push(await vector(4, 3, size))
process.stdout.write('[\n' + vectors.map((v) => '  ' + JSON.stringify(v)).join(',\n') + '\n]\n')
