/**
 * Who may import what (docs/architecture.md, "Layers"): a folder imports folders further down this list, never one above it
 * and never a neighbour of its own layer. `ids`, `errors`, `log` and `metrics` are open to all.
 */
const layers = [
  ['cli'],
  ['api', 'experiment', 'sim', 'testnet'],
  ['node'],
  ['net', 'train'],
  ['engine', 'data', 'wire'],
  ['federation'],
  ['governance', 'aggregate'],
  ['model'],
  ['math']
]
// report is shared by testnet, experiment and simulate; bench measures everything; both stand outside the layers.
const at = folder => (folder === 'testnet' ? '^testnet/' : `^src/${folder}/`)
const forbidden = []
layers.forEach((layer, depth) => {
  for (const folder of layer) {
    const above = layers.slice(0, depth).flat()
    const beside = layer.filter(other => other !== folder)
    if (above.length + beside.length === 0) continue
    forbidden.push({
      name: `${folder}-imports-downwards`,
      severity: 'error',
      from: { path: at(folder) },
      to: { path: [...above, ...beside].map(at).concat(folder === 'node' || folder === 'cli' ? [] : ['^src/config\\.ts$']) }
    })
  }
})
const pure = ['math', 'model', 'aggregate', 'federation', 'wire', 'governance'].map(at)
forbidden.push(
  { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
  {
    name: 'pure-folders-do-no-io',
    severity: 'error',
    from: { path: pure },
    to: { dependencyTypes: ['core'], pathNot: ['^(node:)?crypto$'] }
  },
  { name: 'tests-stay-tests', severity: 'error', from: { path: '^(src|testnet|bench)/' }, to: { path: '^test/' } },
  { name: 'no-orphans-of-dev', severity: 'error', from: { path: '^(src|testnet)/' }, to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm-peer'] } },
  { name: 'resolvable', severity: 'error', from: {}, to: { couldNotResolve: true } }
)
module.exports = {
  forbidden,
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    exclude: { path: '\\.as\\.ts$' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'], extensions: ['.ts', '.js', '.json'] }
  }
}
