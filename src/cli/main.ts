#!/usr/bin/env node
/** The command line. Each command's code is loaded when it is run, so that `--help` and a starting node are quick. */
import { enableCompileCache } from 'node:module'

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `worldlm needs Node 22.18 or newer, this is ${process.versions.node}. In a clone, use npm's scripts: npm start, npm run -s worldlm -- …\n`
  )
  process.exit(2)
}
enableCompileCache()

const { run } = await import('./program.ts')
await run(process.argv)
