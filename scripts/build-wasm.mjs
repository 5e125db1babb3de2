// Builds every src/**/*.as.ts (AssemblyScript) into its neighbour *.wasm.ts, which is committed: users need no compiler.
// `node scripts/build-wasm.mjs --check` builds nothing and fails if a committed file is not what its source gives.
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import asc from 'assemblyscript/asc'

const flags = ['--optimizeLevel', '3', '--shrinkLevel', '0', '--converge', '--enable', 'simd', '--runtime', 'stub', '--importMemory', '--noAssert']

async function build(source) {
  const name = source.split('/').at(-1)
  const text = readFileSync(source, 'utf8')
  let binary = null
  const { error, stderr } = await asc.main([name, '--outFile', 'out.wasm', ...flags], {
    readFile: file => (file === name ? text : null),
    writeFile: (file, content) => {
      if (file === 'out.wasm') binary = content
    },
    listFiles: () => []
  })
  if (error !== null || binary === null) throw new Error(`${source}: ${stderr.toString()}`)
  const header = `// Made from ${name} by \`npm run wasm\`; do not edit.\n`
  return `${header}// biome-ignore format: one line of bytes\nexport const wasmBase64 = '${Buffer.from(binary).toString('base64')}'\n`
}

const check = process.argv.includes('--check')
let wrong = 0
for (const source of globSync('src/**/*.as.ts').sort()) {
  const target = source.replace(/\.as\.ts$/, '.wasm.ts')
  const built = await build(source)
  if (!check) writeFileSync(target, built)
  else if (readFileSync(target, 'utf8') !== built) {
    console.error(`${target} is not what ${source} gives: run \`npm run wasm\``)
    wrong++
  }
}
process.exitCode = wrong > 0 ? 1 : 0
