/** Documents and code hold each other: what one names, the other has. */
import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { configurationPage } from '../scripts/configuration-page.ts'

const sources = globSync('{src,testnet,bench}/**/*.ts').filter(path => !path.endsWith('.as.ts'))
const code = new Map(sources.map(path => [path, readFileSync(path, 'utf8')]))
const all = [...code.values()].join('\n')
const read = (page: string) => readFileSync(page, 'utf8')
const matches = (text: string, pattern: RegExp) => new Set([...text.matchAll(pattern)].map(match => match[1]!))

/** Codes that errors, warnings and faults are made with. */
const inCode = new Set(
  [
    ...matches(all, /WorldlmError\(\s*'([A-Z][A-Z0-9_]+)'/g),
    ...matches(all, /\bcode: '([A-Z][A-Z0-9_]+)'/g),
    ...matches(all, /\bcode = '([A-Z][A-Z0-9_]+)'/g),
    ...matches(all, /\bwarn\(\s*'([A-Z][A-Z0-9_]+)'/g),
    ...matches(all, /\bonWarning\(\s*'([A-Z][A-Z0-9_]+)'/g),
    ...matches(all, /\bfail\(\s*'([A-Z][A-Z0-9_]+)'/g)
  ].filter(name => !/^I\d$/.test(name))
)

describe('the documents', () => {
  it('list every code of an error, a warning or a fault, and no other', () => {
    const listed = matches(read('docs/errors.md'), /`([A-Z][A-Z0-9]*_[A-Z0-9_]+|[A-Z]{3,})`/g)
    assert.deepEqual([...inCode].filter(name => !listed.has(name)).sort(), [], 'in the code, not in docs/errors.md')
    assert.deepEqual([...listed].filter(name => !all.includes(`'${name}'`)).sort(), [], 'in docs/errors.md, not in the code')
  })

  it('list every metric, and no other', () => {
    const listed = matches(read('docs/metrics.md'), /`(worldlm_[a-z_]+)`/g)
    assert.deepEqual([...listed].sort(), [...matches(all, /'(worldlm_[a-z_]+)'/g)].sort())
  })

  it('list every option: `npm run docs` writes the page', () => {
    assert.equal(read('docs/configuration.md'), configurationPage())
  })

  it('have every page and section that the code cites', () => {
    for (const [path, text] of code) {
      for (const [, page, section] of text.matchAll(/docs\/([a-z-]+\.md)(?:, "([^"]+)")?/g)) {
        assert.ok(existsSync(`docs/${page}`), `${path} cites docs/${page}`)
        const known =
          section === undefined ||
          new RegExp(`^#+ .*${section.replaceAll(/[.*+?^$()[\]{}|\\]/g, '\\$&')}`, 'm').test(read(`docs/${page}`))
        const term = section !== undefined && read(`docs/${page}`).includes(`- **${section.replace(/s$/, '')}`)
        assert.ok(known || term, `${path} cites docs/${page}, "${section}"`)
      }
    }
  })

  it('have every page that they link to', () => {
    for (const page of ['README.md', 'CONTRIBUTING.md', ...globSync('docs/*.md')]) {
      for (const target of matches(read(page), /\]\(([^)#]+?)(?:#[^)]*)?\)/g)) {
        if (/^https?:/.test(target)) continue
        const base = page.startsWith('docs/') ? 'docs/' : ''
        assert.ok(existsSync(base + target), `${page} links to ${target}`)
      }
    }
  })

  it('number the invariants as the code does', () => {
    const listed = matches(read('docs/protocol.md'), /^\| (I\d) \|/gm)
    for (const name of matches(all, /['"(\s](I\d)[:)\s'"]/g)) assert.ok(listed.has(name), `${name} is cited in the code`)
  })

  it('say the version of the package', () => {
    const { version } = JSON.parse(read('package.json')) as { version: string }
    assert.ok(read('CHANGELOG.md').includes(`## ${version}`))
  })
})
