import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  coversPattern,
  coversPlace,
  forbidsAny,
  mayEnter,
  mayFetch,
  mayLeave,
  matchesPath,
  type Place
} from '../../src/governance/egress.ts'
import type { EgressRule } from '../../src/governance/charter.ts'

const organization = (path: string): Place => ({ path, kind: 'organization' })
const federation = (path: string): Place => ({ path, kind: 'federation' })
const home = 'world/english/biomedicine'
const line = (...egress: EgressRule[]) => [{ path: home, egress }]

describe('egress', () => {
  const patterns = [
    { pattern: 'world/languages/**', path: 'world/languages', fits: true },
    { pattern: 'world/languages/**', path: 'world/languages/german', fits: true },
    { pattern: 'world/languages/**', path: 'world/languages/germanic/dutch', fits: true },
    { pattern: 'world/languages/**', path: 'world/languages-dead/latin', fits: false },
    { pattern: 'world/*', path: 'world/languages', fits: true },
    { pattern: 'world/*', path: 'world/languages/german', fits: false },
    { pattern: 'world/*/german', path: 'world/languages/german', fits: true },
    { pattern: '**/german', path: 'world/languages/german', fits: true },
    { pattern: '**/german', path: 'german', fits: true },
    { pattern: '**', path: 'world', fits: true },
    { pattern: 'world', path: 'world/languages', fits: false }
  ]
  for (const { pattern, path, fits } of patterns)
    it(`${pattern} ${fits ? 'fits' : 'does not fit'} ${path}`, () => assert.equal(matchesPath(pattern, path), fits))

  const covered = [
    { wide: 'world/**', narrow: 'world/a/**', covers: true },
    { wide: 'world/a/**', narrow: 'world/**', covers: false },
    { wide: 'world/*', narrow: 'world/a', covers: true },
    { wide: 'world/*', narrow: 'world/**', covers: false },
    { wide: '**/b', narrow: 'world/**/b', covers: true },
    { wide: 'world/a', narrow: 'world/b', covers: false }
  ]
  for (const { wide, narrow, covers } of covered)
    it(`${wide} ${covers ? 'covers' : 'does not cover'} ${narrow}`, () => assert.equal(coversPattern(wide, narrow), covers))

  it('a world’s parent is nowhere: what is said of a place does not cover it', () => {
    assert.equal(coversPlace('world', 'parent', 'world'), false)
    assert.equal(coversPlace('world', 'parent', 'world/english'), true)
    assert.equal(coversPlace('world/english/*', 'members', 'world/english'), true)
  })

  it('a pattern covers another as all short paths show', () => {
    const segments = (words: string[]) => fc.array(fc.constantFrom(...words), { minLength: 1, maxLength: 4 })
    const paths = ['a', 'b', 'c'].flatMap(one => [
      one,
      ...['a', 'b', 'c'].flatMap(two => [`${one}/${two}`, ...['a', 'b', 'c'].map(three => `${one}/${two}/${three}`)])
    ])
    fc.assert(
      fc.property(segments(['a', 'b', '*', '**']), segments(['a', 'b', '*', '**']), (left, right) => {
        const [wide, narrow] = [left.join('/'), right.join('/')]
        return !coversPattern(wide, narrow) || paths.every(path => !matchesPath(narrow, path) || matchesPath(wide, path))
      }),
      { numRuns: 2_000 }
    )
  })

  it('a pattern fits what it would by every way to read it, and covers what it would', () => {
    const tried = (pattern: string[], path: string[]): boolean => {
      const [first, ...rest] = pattern
      if (first === undefined) return path.length === 0
      if (first === '**') return tried(rest, path) || (path.length > 0 && tried(pattern, path.slice(1)))
      return path.length > 0 && (first === '*' || first === path[0]) && tried(rest, path.slice(1))
    }
    const triedToCover = (wide: string[], narrow: string[]): boolean => {
      const [first, ...rest] = wide
      if (first === undefined) return narrow.length === 0
      if (first === '**') return triedToCover(rest, narrow) || (narrow.length > 0 && triedToCover(wide, narrow.slice(1)))
      if (narrow.length === 0 || narrow[0] === '**') return false
      return (first === '*' || first === narrow[0]) && triedToCover(rest, narrow.slice(1))
    }
    const segments = (words: string[], maxLength: number) => fc.array(fc.constantFrom(...words), { minLength: 1, maxLength })
    const pattern = segments(['a', 'b', '*', '**'], 6)
    fc.assert(
      fc.property(pattern, segments(['a', 'b', '**'], 7), (one, path) => {
        assert.equal(matchesPath(one.join('/'), path.join('/')), tried(one, path))
      }),
      { numRuns: 5_000 }
    )
    fc.assert(
      fc.property(pattern, pattern, (wide, narrow) => {
        assert.equal(coversPattern(wide.join('/'), narrow.join('/')), triedToCover(wide, narrow))
      }),
      { numRuns: 5_000 }
    )
  })

  it('a pattern is read at once, however a stranger has written it', () => {
    const deep = `world${'/a'.repeat(15)}`
    const began = performance.now()
    for (const pattern of [99, 50, 50].map((times, kind) => `${['**/', '**/a/', '**/*/'][kind]!.repeat(times)}x`))
      for (let times = 0; times < 100; times++) assert.ok(!matchesPath(pattern, deep) && !coversPattern(pattern, `${deep}/**`))
    assert.ok(performance.now() - began < 5_000)
  })

  it('a place of a charter covers another, as it is read there', () => {
    const rows: [string | undefined, string | undefined, boolean][] = [
      [undefined, 'parent', true],
      ['members', 'children', true],
      ['children', 'members', false],
      ['world/english/**', 'members', true],
      ['world/**', 'parent', true],
      ['members', undefined, false],
      ['members', `${home}/*`, true]
    ]
    for (const [wide, narrow, covers] of rows) assert.equal(coversPlace(wide, narrow, home), covers, `${wide} ${narrow}`)
    assert.equal(coversPlace('**/x', 'parent', 'world'), false)
  })

  const forbid = { tensor: 'residual', allow: false } as const
  const rows: { why: string; rules: EgressRule[]; to: Place; allowed: boolean }[] = [
    { why: 'no rule: everything passes', rules: [], to: organization('world/languages/german'), allowed: true },
    {
      why: 'forbidden by path',
      rules: [{ ...forbid, to: 'world/languages/**' }],
      to: organization('world/languages/german'),
      allowed: false
    },
    {
      why: 'another path',
      rules: [{ ...forbid, to: 'world/languages/**' }],
      to: organization('world/english/law/acts'),
      allowed: true
    },
    {
      why: 'the first match wins: an exception before the rule',
      rules: [
        { tensor: 'residual', to: 'world/languages/german', allow: true },
        { ...forbid, to: 'world/languages/**' }
      ],
      to: organization('world/languages/german'),
      allowed: true
    },
    {
      why: 'the first match wins: an exception behind the rule comes too late',
      rules: [
        { ...forbid, to: 'world/languages/**' },
        { tensor: 'residual', to: 'world/languages/german', allow: true }
      ],
      to: organization('world/languages/german'),
      allowed: false
    },
    {
      why: 'a rule for another tensor',
      rules: [{ tensor: 'keys', to: '**', allow: false }],
      to: organization('world/x/y'),
      allowed: true
    },
    {
      why: 'a rule for all tensors',
      rules: [{ tensor: '*', to: '**', allow: false }],
      to: organization('world/x/y'),
      allowed: false
    },
    { why: 'a rule without a place', rules: [forbid], to: organization('world/x/y'), allowed: false },
    { why: 'parent', rules: [{ ...forbid, to: 'parent' }], to: federation('world/english'), allowed: false },
    { why: 'parent is not its parent', rules: [{ ...forbid, to: 'parent' }], to: federation('world'), allowed: true },
    { why: 'members', rules: [{ ...forbid, to: 'members' }], to: organization(`${home}/drugs`), allowed: false },
    {
      why: 'members are not what lies below them',
      rules: [{ ...forbid, to: 'members' }],
      to: organization(`${home}/a/b`),
      allowed: true
    },
    {
      why: 'children are federations',
      rules: [{ ...forbid, to: 'children' }],
      to: organization(`${home}/drugs`),
      allowed: true
    },
    { why: 'children', rules: [{ ...forbid, to: 'children' }], to: federation(`${home}/drugs`), allowed: false },
    {
      why: 'a jurisdiction that is forbidden',
      rules: [{ ...forbid, toJurisdiction: ['US'] }],
      to: { ...organization('world/x/y'), jurisdiction: 'US' },
      allowed: false
    },
    {
      why: 'a jurisdiction that is not named',
      rules: [{ ...forbid, toJurisdiction: ['US'] }],
      to: { ...organization('world/x/y'), jurisdiction: 'DE' },
      allowed: true
    },
    {
      why: 'an unknown jurisdiction could be the forbidden one',
      rules: [{ ...forbid, toJurisdiction: ['US'] }],
      to: organization('world/x/y'),
      allowed: false
    },
    {
      why: 'an unknown jurisdiction is none that is allowed',
      rules: [{ tensor: 'residual', toJurisdiction: ['DE'], allow: true }, forbid],
      to: organization('world/x/y'),
      allowed: false
    }
  ]
  for (const { why, rules, to, allowed } of rows)
    it(`${allowed ? 'lets a residual out' : 'keeps it back'}: ${why}`, () =>
      assert.equal(mayLeave(line(...rules), 'residual', to).allowed, allowed))

  it('asks every charter up to the root, and names the one that forbids with its reason', () => {
    const line = [
      { path: 'world/a/b', egress: [{ tensor: '*', to: '**', allow: true } as const] },
      { path: 'world/a', egress: [{ ...forbid, to: 'world/c/**', reason: 'contract 17' }] },
      { path: 'world', egress: [] }
    ]
    const refused = { allowed: false, by: 'world/a', reason: 'contract 17' }
    assert.deepEqual(mayLeave(line, 'residual', organization('world/c/d')), refused)
    assert.deepEqual(mayLeave(line, 'residual', organization('world/e/d')), { allowed: true })
  })

  it('reads ingress alike, and leaves egress out of it', () => {
    const line = [
      { path: home, egress: [forbid], ingress: [{ tensor: 'residual', from: 'world/code/**', allow: false } as const] }
    ]
    assert.equal(mayEnter(line, 'residual', organization('world/code/c')).allowed, false)
    assert.equal(mayEnter(line, 'residual', organization('world/prose/p')).allowed, true)
  })

  it('agrees with a pattern turned into a regular expression', () => {
    const step = fc.constantFrom('a', 'b', '*', '**')
    const path = fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 5 }), path, (pattern, steps) => {
        const parts = pattern.map(one => (one === '**' ? '(?:[^/]+/)*' : one === '*' ? '[^/]+/' : `${one}/`))
        const expected = new RegExp(`^${parts.join('')}$`).test(`${steps.join('/')}/`)
        assert.equal(matchesPath(pattern.join('/'), steps.join('/')), expected)
      }),
      { numRuns: 2000 }
    )
  })

  describe('of a blob', () => {
    const parent = federation('world/english')
    const member = organization(`${home}/ann`)
    const far = organization('world/code/linux')
    const keys = { tensor: 'keys', allow: false } as const
    const blobs: { why: string; rules: EgressRule[]; places: Place[]; allowed: boolean }[] = [
      { why: 'no rule', rules: [], places: [], allowed: true },
      {
        why: 'a stranger could be where it is forbidden',
        rules: [{ ...keys, to: 'world/code/**' }],
        places: [],
        allowed: false
      },
      {
        why: 'a stranger is not taken for one that is allowed',
        rules: [{ tensor: 'keys', to: 'world/code/**', allow: true }, keys],
        places: [],
        allowed: false
      },
      {
        why: 'a stranger, where all are allowed first',
        rules: [{ tensor: '*', to: '**', allow: true }, keys],
        places: [],
        allowed: true
      },
      { why: 'elsewhere', rules: [{ ...keys, to: 'world/code/**' }], places: [far], allowed: false },
      { why: 'one of several places', rules: [{ ...keys, to: 'world/code/**' }], places: [parent, far], allowed: false },
      { why: 'the parent', rules: [{ ...keys, to: 'parent' }], places: [parent], allowed: false },
      {
        why: 'a member that votes in the parent too',
        rules: [{ ...keys, to: 'parent' }],
        places: [parent, member],
        allowed: true
      },
      {
        why: 'a member of another whose path begins alike, that votes in the parent',
        rules: [{ ...keys, to: 'parent' }],
        places: [parent, organization(`${home}s/ann`)],
        allowed: false
      },
      { why: 'its own member', rules: [{ ...keys, to: 'members' }], places: [member], allowed: false },
      { why: 'a rule on what is not in it', rules: [{ ...keys, tensor: 'residual' }], places: [far], allowed: true }
    ]
    for (const { why, rules, places, allowed } of blobs)
      it(`${allowed ? 'may leave' : 'may not leave'}: ${why}`, () =>
        assert.equal(mayFetch({ tensors: ['keys', 'backbone'], line: line(...rules) }, places).allowed, allowed))

    it('needs no place where no rule forbids anything', () => {
      const rules = fc.array(fc.record({ tensor: fc.constantFrom('keys', 'backbone', '*' as const), allow: fc.boolean() }))
      const places = fc.subarray([parent, member, far])
      fc.assert(
        fc.property(rules, places, (egress, asked) => {
          const charters = line(...egress)
          return forbidsAny(charters) || mayFetch({ tensors: ['keys', 'backbone'], line: charters }, asked).allowed
        })
      )
    })
  })
})
