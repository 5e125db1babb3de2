/** report.json's shape, report.html's safety, curves.csv; and what they conclude. */
import assert from 'node:assert/strict'
import { curvesCsv } from '../../src/report/csv.ts'
import { reportHtml, verdict } from '../../src/report/html.ts'
import { meanPerplexity, summarizeOrganizations, type TestnetReport, testnetReportSchema } from '../../src/report/schema.ts'
import { outsideTraining } from '../../testnet/report.ts'

const hostile = '<script>alert("1")</script>&\'/x'
function sample(overrides: Partial<TestnetReport> = {}): TestnetReport {
  const path = 'code/javascript'
  const times = { total: 10, train: 5, evaluate: 1, judge: 1, attend: 1, transfer: 1, wait: 1 }
  return {
    schema: 'worldlm.testnet/1',
    seed: 0,
    seconds: 93.1,
    firstRoundSeconds: 12.5,
    interrupted: false,
    stalled: null,
    model: { parameters: 787_584, rounds: 2, steps: 40, batch: 8, context: 128 },
    versions: { worldlm: '0.1.0', node: '24.0.0' },
    organizations: [{ path, peer: '12D3KooWa', trainBytes: 1, validBytes: 1, folder: 'code-javascript' }],
    federations: [
      { path: 'world', id: 'bafyW', parent: null, aggregator: '12D3KooWa', term: 1, rounds: 2 },
      { path: 'world/code', id: 'bafyC', parent: 'world', aggregator: '12D3KooWa', term: 1, rounds: 2 }
    ],
    rounds: [1, 2].map(round => ({
      federation: 'world/code',
      round,
      term: 1,
      aggregator: '12D3KooWa',
      entry: `bafy${round}`,
      included: [{ member: '12D3KooWa', name: 'javascript', weight: 1, attention: { embedding: 0.4, '0': 0.6 } }],
      excluded: [{ member: '12D3KooWb', name: 'manifests', reason: 'absent' }],
      residuals: [],
      bytesIn: 1e6,
      bytesOut: 2e6,
      seconds: { train: 1, transfer: 0.5, aggregate: 0.25, commit: 0.1 },
      atSeconds: 12.5 * round,
      alone: null
    })),
    evaluations: [
      { path, round: 1, model: 'personal', perplexity: 40, bitsPerByte: 5.3 },
      { path, round: 2, model: 'personal', perplexity: 30, bitsPerByte: 4.9 },
      { path, round: 2, model: 'aggregated', perplexity: 31, bitsPerByte: 4.95 },
      { path, round: 2, model: 'federation', perplexity: 35, bitsPerByte: 5.1 }
    ],
    alone: [{ path, round: 2, perplexity: 40, bitsPerByte: 5.3 }],
    times: [{ path, round: 1, ...times }],
    outsideTraining: { rounds: [{ round: 1, share: 0.3 }], share: 0.3 },
    attention: [{ path, round: 1, candidates: [{ name: 'own', weight: 0.7, nllPerByte: 2.1 }] }],
    faults: [
      {
        kind: 'lost-member',
        target: '12D3KooWb',
        path: 'code/manifests',
        federations: ['world/code'],
        atSeconds: 41.2,
        recoveredAfterMs: 2310,
        planned: false,
        mendedAtSeconds: null,
        backAfterMs: null,
        detail: ''
      }
    ],
    scenario: null,
    residuals: [],
    warnings: [],
    invariants: { checked: ['I1', 'I2'], violations: [] },
    ...overrides
  }
}

describe('report.json', () => {
  it('is of its schema, and comes back from JSON as it was', () => {
    const report = sample()
    assert.deepEqual(testnetReportSchema.parse(JSON.parse(JSON.stringify(report))), report)
    const { rounds: _rounds, ...without } = report
    assert.equal(testnetReportSchema.safeParse(without).success, false)
    assert.equal(testnetReportSchema.safeParse({ ...report, schema: 'worldlm.testnet/2' }).success, false)
  })

  it('has the fields that the contract names', () => {
    const report = sample()
    for (const key of [
      'seed',
      'seconds',
      'model',
      'versions',
      'organizations',
      'rounds',
      'evaluations',
      'faults',
      'invariants'
    ])
      assert.ok(key in report, key)
    for (const key of [
      'federation',
      'round',
      'term',
      'aggregator',
      'entry',
      'included',
      'excluded',
      'residuals',
      'bytesIn',
      'bytesOut',
      'seconds'
    ])
      assert.ok(key in report.rounds[0]!, key)
  })

  it('sums up each organization at its newest round, and knows what is missing', () => {
    const [row] = summarizeOrganizations(sample())
    assert.deepEqual(row, {
      path: 'code/javascript',
      round: 2,
      personalFirst: 40,
      personal: 30,
      aggregated: 31,
      federation: 35,
      alone: 40
    })
    const [none] = summarizeOrganizations(sample({ evaluations: [], alone: [] }))
    assert.deepEqual([none!.personal, none!.alone, none!.round], [null, null, 0])
  })

  it('means of perplexity are exp of the mean nll', () => {
    assert.equal(meanPerplexity([]), null)
    assert.ok(Math.abs(meanPerplexity([2, 8])! - 4) < 1e-12)
  })

  it('counts as outside of training what is neither training nor evaluation', () => {
    const { times } = sample()
    assert.deepEqual(outsideTraining(times), { rounds: [{ round: 1, share: 0.3 }], share: 0.3 })
    assert.deepEqual(outsideTraining([]), { rounds: [], share: null })
  })
})

describe('report.html', () => {
  it('is one file that takes nothing from elsewhere and runs nothing', () => {
    const html = reportHtml(sample())
    assert.match(html, /^<!doctype html>/)
    assert.doesNotMatch(html, /<script|<link|src=|href=|url\(|@import/)
    for (const shown of ['code/javascript', 'world/code'.slice(6), 'lost-member', 'absent', 'I1, I2'])
      assert.ok(html.includes(shown), shown)
  })

  it('is as harmless with hostile names in every place that a stranger fills', () => {
    const base = sample()
    const html = reportHtml(
      sample({
        stalled: hostile,
        model: { ...base.model, parameters: hostile },
        versions: { worldlm: hostile, node: hostile },
        organizations: [{ ...base.organizations[0]!, path: hostile, peer: hostile, folder: hostile }],
        federations: base.federations.map(one => ({
          ...one,
          path: one.path === 'world' ? 'world' : `world/${hostile}`,
          aggregator: hostile
        })),
        rounds: base.rounds.map(round => ({
          ...round,
          federation: `world/${hostile}`,
          aggregator: hostile,
          included: [{ member: hostile, name: hostile, weight: 1, attention: { [hostile]: 0.5 } }],
          excluded: [{ member: hostile, name: hostile, reason: hostile }],
          alone: hostile
        })),
        evaluations: base.evaluations.map(one => ({ ...one, path: hostile })),
        alone: base.alone.map(one => ({ ...one, path: hostile })),
        attention: [{ path: hostile, round: 1, candidates: [{ name: hostile, weight: 0.5, nllPerByte: 1 }] }],
        faults: base.faults.map(fault => ({
          ...fault,
          path: hostile,
          target: hostile,
          federations: [hostile],
          detail: hostile
        })),
        scenario: { name: hostile, about: hostile, failures: [hostile], notPlayed: [hostile] },
        residuals: [{ round: 1, from: hostile, to: hostile, via: hostile, similarity: 0.5, weight: 0.1 }],
        warnings: [{ path: hostile, code: hostile, message: hostile }],
        invariants: { checked: ['I1'], violations: [{ invariant: hostile, detail: hostile }] }
      })
    )
    assert.ok(html.includes('&lt;script&gt;'))
    assert.doesNotMatch(html, /<script/)
    assert.doesNotMatch(html, /alert\("1"\)/, 'not even in an attribute')
  })

  it('is readable of a run in which nothing happened', () => {
    const html = reportHtml(
      sample({
        firstRoundSeconds: null,
        interrupted: true,
        rounds: [],
        evaluations: [],
        alone: [],
        times: [],
        attention: [],
        faults: [],
        outsideTraining: { rounds: [], share: null }
      })
    )
    assert.doesNotMatch(html, /NaN|undefined|Infinity|null/)
    assert.match(html, /interrupted/)
  })
})

describe('the verdict', () => {
  it('says by how much, in which direction, and when it is nothing', () => {
    const alone = (perplexity: number) =>
      verdict(sample({ alone: [{ path: 'code/javascript', round: 2, perplexity, bitsPerByte: 1 }] }))
    assert.match(alone(40), /1 of 1 personal models are better than after round 1.*25\.0 % below training alone/)
    assert.match(alone(25), /20\.0 % above training alone/)
    assert.match(alone(30), /level with training alone/)
    assert.match(verdict(sample({ alone: [] })), /Training alone was not measured/)
  })
})

describe('curves.csv', () => {
  it('has a line a value, sorted, with tokens', () => {
    const lines = curvesCsv(sample()).trimEnd().split('\n')
    assert.equal(lines[0], 'path,round,model,perplexity,bitsPerByte,tokens')
    assert.deepEqual(lines.slice(1), [
      'code/javascript,2,aggregated,31,4.95,81920',
      'code/javascript,2,alone,40,5.3,81920',
      'code/javascript,2,federation,35,5.1,81920',
      'code/javascript,1,personal,40,5.3,40960',
      'code/javascript,2,personal,30,4.9,81920'
    ])
  })

  it('quotes what has commas, quotes or lines in it', () => {
    const path = 'a,"b"\nc'
    const csv = curvesCsv(
      sample({ evaluations: [{ path, round: 1, model: 'personal', perplexity: 1, bitsPerByte: 0 }], alone: [] })
    )
    assert.ok(csv.includes('"a,""b""\nc",1,personal,1,0,'))
  })
})
