/** Methods against each other where they must agree: the oracles of the table in docs/algorithm.md. */
import assert from 'node:assert/strict'
import { createEngine } from '../../src/engine/create.ts'
import { methodNames } from '../../src/experiment/methods.ts'
import type { Swept } from '../../src/experiment/options.ts'
import { planCells } from '../../src/experiment/plan.ts'
import { initialParameters } from '../../src/model/initial.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { TrainingSession } from '../../src/train/session.ts'
import { four, perplexities, runSmall, smallOptions, smallTree } from './small.ts'

/** Means of positions and means of changes differ by rounding alone. */
function assertClose(left: number[], right: number[], relative = 1e-4): void {
  assert.equal(left.length, right.length)
  for (const [place, value] of left.entries())
    assert.ok(Math.abs(value / right[place]! - 1) < relative, `${value} is not ${right[place]} (place ${place})`)
}

describe('methods of an experiment', function () {
  this.timeout(120_000)
  let tree = ''
  before(() => (tree = smallTree(four)))

  it('learn, each of them, and give every figure that their row promises', async () => {
    const results = await runSmall(smallOptions(tree, { methods: methodNames }), { workers: 2 })
    for (const [place, result] of results.entries()) {
      const name = methodNames[place]!
      assert.deepEqual(
        result.curve.map(({ round }) => round),
        [1, 2, 3],
        name
      )
      const personal = perplexities(result, 'personal')
      // A model that knows nothing has a perplexity of 256; the text of others may cost more than the last round brought.
      assert.ok(
        personal.every(perplexity => perplexity < 250),
        `${name} does not learn: ${personal}`
      )
      assert.ok(perplexities(result, 'aggregated').every(Number.isFinite), name)
      const alone = ['local', 'dpsgd'].includes(name)
      assert.equal(perplexities(result, 'federation').every(Number.isFinite), !alone, name)
      const sends = !['local', 'central'].includes(name)
      assert.equal(result.curve[2]!.bytesUp > 0 && result.curve[2]!.bytesDown > 0, sends, name)
    }
  })

  it('are all alike for one organization, for there is nobody to average with', async () => {
    const one = smallTree({ 'a/1': 'b' })
    const methods = ['local', 'central', 'fedavg', 'hierfavg', 'fedavg-per-federation', 'fedper', 'dpsgd']
    const results = await runSmall(smallOptions(one, { methods }))
    for (const [place, result] of results.entries())
      assertClose(perplexities(result, 'personal'), perplexities(results[0]!, 'personal'), place < 2 ? 1e-12 : 1e-4)
  })

  it('fedavg: the mean of positions is that of changes, in a flat tree or a deep one, aggregated every round', async () => {
    const options = smallOptions(tree, { methods: ['fedavg', 'hierfavg'] })
    const [flat, deep] = await runSmall(options, { change: () => ({ periods: false }) })
    for (const kind of ['personal', 'aggregated', 'federation'] as const)
      assertClose(perplexities(flat!, kind), perplexities(deep!, kind))
  })

  it('hierfavg averages a level up only every second round', async () => {
    const [often, seldom] = await runSmall(smallOptions(tree, { methods: ['fedavg', 'hierfavg'] }))
    const [fedavg, hierfavg] = [often!, seldom!].map(result => perplexities(result, 'federation'))
    // Round 1: two federations, each of one mind; round 2: one mind.
    const model = (values: number[], round: number) => values.slice(round * 4 - 4, round * 4)
    assert.notDeepEqual(model(hierfavg!, 1), model(fedavg!, 1))
    const [perLeaf] = await runSmall(smallOptions(tree, { methods: ['fedavg-per-federation'] }))
    assertClose(model(hierfavg!, 1), model(perplexities(perLeaf!, 'federation'), 1))
  })

  it('pipelined, take their parent’s result of the round before, and have none in the first', async () => {
    const combinations = [{ levels: 'synchronous' }, { levels: 'pipelined' }]
    const every = { change: () => ({ periods: false }) }
    const [flat, flatPiped] = await runSmall(smallOptions(tree, { methods: ['fedavg'], combinations }))
    assert.deepEqual(perplexities(flatPiped!, 'federation'), perplexities(flat!, 'federation'))
    const [deep, piped] = await runSmall(smallOptions(tree, { methods: ['hierfavg'], combinations }), every)
    const [leaves] = await runSmall(smallOptions(tree, { methods: ['fedavg-per-federation'] }))
    const model = (result: typeof deep, round: number) => perplexities(result!, 'federation').slice(round * 4 - 4, round * 4)
    assertClose(model(piped, 1), model(leaves, 1))
    assert.notDeepEqual(model(piped, 1), model(deep, 1))
    // In round 1 all train from the common start, so the parent's first mean is the same; children have it a round later.
    assertClose(model(piped, 2), model(deep, 1))
    const [worldlm, other] = await runSmall(smallOptions(tree, { methods: ['worldlm'], combinations }))
    assert.notDeepEqual(perplexities(other!, 'aggregated'), perplexities(worldlm!, 'aggregated'))
  })

  it('have stragglers, that hand in every second round, for half the weight or none', async () => {
    const combinations: Swept[] = [
      { stragglers: 0 },
      { stragglers: 1 },
      { stragglers: 0.5 },
      { stragglers: 0.5, stale: 'drop' }
    ]
    const options = smallOptions(tree, { methods: ['fedavg'], combinations })
    const [none, all, half, dropped] = await runSmall({ ...options, algorithm: { ...options.algorithm, rounds: 4 } })
    assert.equal(all!.curve[3]!.tokens, none!.curve[3]!.tokens / 2)
    // All late alike: two rounds' time for each round.
    const model = (result: typeof all, round: number) => perplexities(result!, 'federation').slice(round * 4 - 4, round * 4)
    assertClose(model(all, 2), model(none, 1))
    assertClose(model(all, 3), model(none, 1))
    assert.equal(half!.curve[0]!.bytesUp, none!.curve[0]!.bytesUp / 2)
    assert.equal(dropped!.curve[3]!.bytesUp, none!.curve[3]!.bytesUp / 2)
    assert.deepEqual(model(half, 1), model(dropped, 1))
    assert.notDeepEqual(model(half, 2), model(dropped, 2))
    assert.equal(perplexities(half!, 'personal').every(Number.isFinite), true)
  })

  it('diloco without momentum, at rate 1, is fedavg', async () => {
    const [fedavg] = await runSmall(smallOptions(tree, { methods: ['fedavg'] }))
    const combinations = [{ outerLearningRate: 1, outerMomentum: 0 }]
    const [diloco] = await runSmall(smallOptions(tree, { methods: ['diloco'], combinations }))
    assertClose(perplexities(diloco!, 'aggregated'), perplexities(fedavg!, 'aggregated'))
    const [moved] = await runSmall(smallOptions(tree, { methods: ['diloco'] }))
    assert.notDeepEqual(perplexities(moved!, 'aggregated'), perplexities(fedavg!, 'aggregated'))
  })

  it('dpsgd of two neighbours is fedavg of two', async () => {
    const two = smallTree({ 'a/1': 'b', 'a/2': 'k' })
    const [fedavg, ring] = await runSmall(smallOptions(two, { methods: ['fedavg', 'dpsgd'] }))
    for (const kind of ['personal', 'aggregated'] as const) assertClose(perplexities(ring!, kind), perplexities(fedavg!, kind))
  })

  it('ditto: what is shared is fedavg, what is personal is pulled, and takes nothing over', async () => {
    const [fedavg, ditto, local] = await runSmall(smallOptions(tree, { methods: ['fedavg', 'ditto', 'local'] }))
    assert.deepEqual(perplexities(ditto!, 'federation'), perplexities(fedavg!, 'federation'))
    assert.deepEqual(perplexities(ditto!, 'personal'), perplexities(ditto!, 'aggregated'))
    assert.notDeepEqual(perplexities(ditto!, 'personal'), perplexities(local!, 'personal'))
    assert.equal(ditto!.curve[2]!.tokens, 2 * fedavg!.curve[2]!.tokens)
  })

  it('lora: what is shared is fedavg, and adapters of one’s own lie over it', async () => {
    const [fedavg, lora] = await runSmall(smallOptions(tree, { methods: ['fedavg', 'lora'] }))
    assert.deepEqual(perplexities(lora!, 'federation'), perplexities(fedavg!, 'federation'))
    assert.equal(lora!.curve[2]!.tokens, 2 * fedavg!.curve[2]!.tokens)
    assert.equal(lora!.curve[2]!.bytesUp, fedavg!.curve[2]!.bytesUp, 'adapters stay at home')
    // They have learned something: over the same shared model, one's own text is likelier with them than without.
    const [shared, adapted] = [perplexities(lora!, 'federation'), perplexities(lora!, 'aggregated')].map(all => all.slice(8))
    for (const [place, value] of adapted!.entries()) assert.ok(value < shared![place]!, `${value} < ${shared![place]}`)
    await assert.rejects(
      runSmall(smallOptions(tree, { algorithm: { adapters: { rank: 4, alpha: 8, matrices: ['query'] } } })),
      { code: 'USAGE' }
    )
  })

  it('worldlm that keeps its own key layers, all of the model, is training alone', async () => {
    const [local] = await runSmall(smallOptions(tree, { methods: ['local'] }))
    const [self] = await runSmall(smallOptions(tree, { methods: ['worldlm'], combinations: [{ down: 'self' }] }))
    assert.deepEqual(perplexities(self!, 'personal'), perplexities(local!, 'personal'))
  })

  it('central takes a step over the windows that the organizations take in theirs', async () => {
    const [central] = await runSmall(
      smallOptions(tree, { methods: ['central'], algorithm: { ...smallOptions(tree).algorithm, rounds: 1, steps: 2 } })
    )
    const [plan] = await planCells(
      smallOptions(tree, { methods: ['central'], algorithm: { ...smallOptions(tree).algorithm, rounds: 1, steps: 2 } })
    )
    const { layout, organizations, seed } = plan!
    const sessions = await Promise.all(organizations.map(({ session }) => TrainingSession.open(session)))
    const { weightDecay, gradientClip, schedule, batch } = organizations[0]!.session
    const engine = await createEngine('onnx', { layout, batch: batch * 4, threads: 1, weightDecay, gradientClip })
    await engine.load(initialParameters(layout, seed))
    for (let step = 0; step < 2; step++) {
      const batches = sessions.map(session => session.next())
      const join = (key: 'inputs' | 'targets') => Int32Array.from(batches.flatMap(one => [...one[key]]))
      await engine.step({ inputs: join('inputs'), targets: join('targets') }, learningRateAt(step, schedule))
    }
    const { parameters } = await engine.read()
    const want: number[] = []
    for (const session of sessions) {
      await session.load(parameters)
      want.push((await session.evaluate('validation')).perplexity)
      await session.engine.dispose()
    }
    assertClose(perplexities(central!, 'personal'), want, 1e-9)
  })

  it('have their privacy: updates are clipped, noise is by seed, and one’s own key layers stay as they were', async () => {
    const run = (combination: Record<string, number>) =>
      runSmall(smallOptions(tree, { methods: ['fedavg'], combinations: [combination] })).then(([one]) => one!)
    const [clipped, noisy, again, wide, plain] = [
      await run({ dpClip: 1e-6 }),
      await run({ dpClip: 1, dpNoise: 0.1 }),
      await run({ dpClip: 1, dpNoise: 0.1 }),
      await run({ dpClip: 1e6 }),
      await run({})
    ]
    const still = perplexities(clipped, 'federation')
    assertClose(still.slice(0, 4), still.slice(8), 1e-3)
    assert.deepEqual(perplexities(noisy, 'federation'), perplexities(again, 'federation'))
    assert.notDeepEqual(perplexities(noisy, 'federation'), perplexities(plain, 'federation'))
    assertClose(perplexities(wide, 'federation'), perplexities(plain, 'federation'))
  })

  it('have liars, whom fedavg believes', async () => {
    const combinations = [{ liars: 0 }, { liars: 1 }]
    const [honest, lied] = await runSmall(smallOptions(tree, { methods: ['fedavg'], combinations }))
    assert.ok(perplexities(lied!, 'federation').at(-1)! > perplexities(honest!, 'federation').at(-1)!)
  })

  it('have a newcomer, that takes over what is there and trains as many rounds less', async () => {
    const combinations = [{ newcomer: 'a/2', newcomerRound: 2, newcomerText: 6000 }]
    const kin = smallTree({ ...four, 'a/2': four['a/1'] })
    const [worldlm, local] = await runSmall(smallOptions(kin, { methods: ['worldlm', 'local'], combinations }))
    assert.deepEqual(
      worldlm!.curve.map(({ organizations }) => 'a/2' in organizations),
      [false, false, true]
    )
    assert.ok(local!.curve.every(({ organizations }) => 'a/2' in organizations))
    const first = (result: typeof local, round: number) => result!.curve[round - 1]!.organizations['a/2']!.personal.perplexity!
    assert.ok(first(worldlm, 3) < first(local, 1), 'it is ahead of its own first round alone')
  })
})
