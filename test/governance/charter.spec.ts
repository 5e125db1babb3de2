/** Charters as people write them: defaults, children, and each contradiction by its own error. */
import assert from 'node:assert/strict'
import type { WorldlmError } from '../../src/errors.ts'
import type { Charter } from '../../src/governance/charter.ts'
import { completeCharter } from '../../src/governance/charter-schema.ts'
import { presets } from '../../src/model/presets.ts'

const founders = ['peer']
const complete = (input: unknown, parent: { id: string; charter: Charter } | null = null) =>
  completeCharter(input, { founders, parent })
const refusal = (input: unknown): { code: string; message: string } => {
  try {
    complete(input)
  } catch (error) {
    const { code, message } = error as WorldlmError
    return { code, message }
  }
  throw new Error('was not refused')
}

const keysTo = (to: string | undefined, allow: boolean) => ({ tensor: 'keys', ...(to !== undefined && { to }), allow })

describe('a charter', () => {
  it('needs nothing but a name: everything else has its default', () => {
    const charter = complete({ name: 'world' })
    assert.deepEqual(
      [charter.schema, charter.path, charter.parent, charter.founders, charter.version],
      ['worldlm.charter/1', 'world', null, founders, 1]
    )
    assert.deepEqual(charter.model, presets.tiny.model)
    const { keyFraction, embeddingIsKey, up, upTemperature, down, downTemperature, textPrior, clip, stale } = charter.algorithm
    assert.deepEqual(
      { keyFraction, embeddingIsKey, up, upTemperature, down, downTemperature, textPrior, clip, stale },
      {
        keyFraction: 1,
        embeddingIsKey: true,
        up: 'update',
        upTemperature: 0.4,
        down: 'likelihood',
        downTemperature: 0.25,
        textPrior: 0.5,
        clip: 'centered',
        stale: 'discount'
      }
    )
  })

  it('takes the paper’s algorithm by one option, and single options beside it', () => {
    const paper = complete({ name: 'w', algorithm: { preset: 'worldlm-paper' } }).algorithm
    assert.deepEqual(
      [paper.keyFraction, paper.embeddingIsKey, paper.up, paper.upTemperature, paper.down, paper.clip],
      [0.3, false, 'cosine', 0.25, 'chain', 'none']
    )
    const warmer = complete({ name: 'w', algorithm: { preset: 'worldlm-paper', upTemperature: 1 } }).algorithm
    assert.deepEqual(warmer, { ...paper, upTemperature: 1 })
    const plain = complete({ name: 'w', algorithm: { preset: 'fedavg' } }).algorithm
    assert.deepEqual([plain.keyFraction, plain.embeddingIsKey, plain.down], [0, false, 'replace'])
  })

  it('makes the embedding a key layer only where all blocks are, unless told otherwise', () => {
    const of = (algorithm: object) => complete({ name: 'w', algorithm }).algorithm.embeddingIsKey
    assert.deepEqual(
      [of({}), of({ keyFraction: 1 }), of({ keyFraction: 0.5 }), of({ keyFraction: 0.5, embeddingIsKey: true })],
      [true, true, false, true]
    )
  })

  it('takes a model by name or by size; the batch follows the name', () => {
    assert.deepEqual(complete({ name: 'w', model: 'small' }).model, presets.small.model)
    const model = { layers: 1, width: 8, hidden: 12, heads: 2, context: 16, vocabulary: 256 }
    assert.deepEqual(complete({ name: 'w', model }).model, { ...model, ropeBase: 10_000, normEpsilon: 1e-5 })
    assert.equal(complete({ name: 'w', model: 'medium', algorithm: { batch: 3 } }).algorithm.batch, 3)
  })

  it('inherits model, algorithm and seed from its parent: one model for the whole tree', () => {
    const parent = complete({ name: 'world', model: 'small', algorithm: { preset: 'worldlm-paper', steps: 7 }, seed: 9 })
    const child = complete(
      { name: 'prose', model: 'medium', algorithm: { steps: 99 }, seed: 1, voters: 3, minMembers: 2, startMembers: 2 },
      { id: 'bafyP', charter: parent }
    )
    assert.deepEqual([child.model, child.algorithm, child.seed], [parent.model, parent.algorithm, 9])
    assert.deepEqual([child.path, child.parent, child.voters, child.minMembers], ['world/prose', 'bafyP', 3, 2])
    const grandchild = complete({ name: 'poems' }, { id: 'bafyC', charter: child })
    assert.deepEqual([grandchild.path, grandchild.algorithm], ['world/prose/poems', parent.algorithm])
  })

  const invalid: { why: string; input: unknown; says: RegExp }[] = [
    { why: 'nothing', input: undefined, says: /document/ },
    { why: 'a list', input: [], says: /document/ },
    { why: 'no name', input: {}, says: /name/ },
    { why: 'an empty name', input: { name: '' }, says: /name/ },
    { why: 'an unknown key', input: { name: 'w', colour: 1 }, says: /colour/ },
    { why: 'an unknown key of the algorithm', input: { name: 'w', algorithm: { tau: 1 } }, says: /algorithm.*tau/ },
    { why: 'an unknown model', input: { name: 'w', model: 'huge' }, says: /model: .*tiny/ },
    { why: 'a model without a size', input: { name: 'w', model: { layers: 1 } }, says: /model\.width: .*number/ },
    {
      why: 'an unknown RoPE',
      input: { name: 'w', model: { ...presets.tiny.model, ropeScaling: { type: 'yarn' } } },
      says: /model\.ropeScaling\.type: .*linear or llama3/
    },
    {
      why: 'a RoPE without its factors',
      input: { name: 'w', model: { ...presets.tiny.model, ropeScaling: { type: 'llama3', factor: 2 } } },
      says: /model\.ropeScaling\.lowFrequencyFactor: .*number/
    },
    { why: 'a share above 1', input: { name: 'w', algorithm: { keyFraction: 1.1 } }, says: /algorithm\.keyFraction/ },
    { why: 'a temperature of 0', input: { name: 'w', algorithm: { upTemperature: 0 } }, says: /algorithm\.upTemperature/ },
    { why: 'a fraction of a step', input: { name: 'w', algorithm: { steps: 1.5 } }, says: /algorithm\.steps/ },
    { why: 'ten voters', input: { name: 'w', voters: 10 }, says: /voters/ },
    { why: 'a negative time', input: { name: 'w', timings: { deadlineMs: -1 } }, says: /timings\.deadlineMs/ },
    { why: 'a time of months', input: { name: 'w', timings: { deadlineMs: 1e10 } }, says: /timings\.deadlineMs.*2073600000/ },
    { why: 'a model by half', input: { name: 'w', model: { layers: 2 } }, says: /model\.width.*expected number/ },
    { why: 'a model in words', input: { name: 'w', model: { layers: '2' } }, says: /model\.layers.*expected number.*string/ },
    { why: 'a model that is none', input: { name: 'w', model: 'huge' }, says: /model: .*"tiny"\|"small"\|"medium"/ },
    { why: 'a list for a model', input: { name: 'w', model: [] }, says: /model: .*expected/ },
    {
      why: 'a peer that is none',
      input: { name: 'w', admission: { mode: 'open', peers: ['x'] } },
      says: /admission\.peers\.0/
    },
    { why: 'a name to be matched', input: { name: '**' }, says: /name/ },
    { why: 'a name that moves the cursor', input: { name: 'w\u001b[2J' }, says: /name/ },
    { why: 'a name of spaces', input: { name: '  ' }, says: /name/ },
    { why: 'the folder above', input: { name: '..' }, says: /name/ },
    {
      why: 'a rule to nobody',
      input: { name: 'w', egress: [{ tensor: 'keys', to: '', allow: false }] },
      says: /egress\.0\.to/
    }
  ]
  for (const { why, input, says } of invalid) {
    it(`is invalid: ${why}`, () => {
      const { code, message } = refusal(input)
      assert.equal(code, 'CHARTER_INVALID')
      assert.match(message, says)
    })
  }

  it('has a heartbeat five times in an election timeout, unless it says how often', () => {
    const heartbeat = (timings: object) => complete({ name: 'w', timings }).timings.heartbeatMs
    assert.deepEqual([heartbeat({}), heartbeat({ electionTimeoutMs: 1000 }), heartbeat({ heartbeatMs: 250 })], [500, 333, 250])
  })

  it('has rules that go from the narrow to the wide, or say the same twice', () => {
    for (const egress of [
      [keysTo('parent', true), keysTo('**', false)],
      [keysTo('w/a', false), keysTo('w/**', true), keysTo('children', false), keysTo('w', false)],
      [keysTo(undefined, false), keysTo('w/a', false)],
      [{ ...keysTo(undefined, false), toJurisdiction: ['US'] }, keysTo(undefined, true)]
    ])
      assert.deepEqual(complete({ name: 'w', egress }).egress, egress)
  })

  it('keeps what a rule says of encodings', () => {
    const egress = [{ tensor: 'keys', to: 'parent', allow: true, encoding: 'bf16' }]
    assert.deepEqual(complete({ name: 'w', egress }).egress, egress)
  })

  it('says which field was meant by one that is not known', () => {
    assert.throws(() => complete({ name: 'w', admision: {} }), { hint: 'Did you mean admission?' })
    assert.throws(() => complete({ name: 'w', timings: { deadlineMS: 1 } }), { hint: 'Did you mean deadlineMs?' })
  })

  const contradictions: { why: string; input: object; says: RegExp }[] = [
    {
      why: 'one lost heartbeat would start an election',
      input: { timings: { heartbeatMs: 600, electionTimeoutMs: 1500 } },
      says: /heartbeatMs/
    },
    {
      why: 'round 1 could never close',
      input: { minMembers: 3, startMembers: 2 },
      says: /startMembers \(2\).*minMembers \(3\)/
    },
    { why: 'nobody may join', input: { admission: { mode: 'allow-list' } }, says: /allow-list without peers/ },
    {
      why: 'a key layer without key layers',
      input: { algorithm: { keyFraction: 0, embeddingIsKey: true } },
      says: /embeddingIsKey without key layers/
    },
    { why: 'a name with a slash', input: { name: 'a/b' }, says: /slash/ },
    {
      why: 'a rule behind one that says the opposite of everything',
      input: { egress: [keysTo(undefined, false), keysTo('parent', true)] },
      says: /egress rule 2 is never reached: rule 1/
    },
    {
      why: 'a place that is allowed and forbidden',
      input: { egress: [keysTo('w/a/**', true), keysTo('w/b', false), keysTo('w/a/**', false)] },
      says: /egress rule 3 is never reached: rule 1/
    },
    {
      why: 'what may come in from everywhere, and not from one place',
      input: {
        ingress: [
          { tensor: '*', from: '**', allow: true },
          { tensor: 'keys', from: 'w/a', allow: false }
        ]
      },
      says: /ingress rule 2 is never reached: rule 1/
    },
    {
      why: 'an exception behind the rule that it is one of',
      input: { egress: [keysTo('w/b', false), keysTo('w/**', false), keysTo('w/a/*', true)] },
      says: /egress rule 3 is never reached: rule 2/
    },
    {
      why: 'children that are allowed behind members that are not',
      input: { egress: [keysTo('members', false), keysTo('children', true)] },
      says: /egress rule 2 is never reached: rule 1/
    },
    {
      why: 'a place that nothing is',
      input: { egress: [keysTo('childs', false)] },
      says: /egress names childs, which nothing is/
    }
  ]
  for (const { why, input, says } of contradictions) {
    it(`contradicts itself: ${why}`, () => {
      const { code, message } = refusal({ name: 'w', ...input })
      assert.equal(code, 'CHARTER_CONTRADICTION')
      assert.match(message, says)
    })
  }
})
