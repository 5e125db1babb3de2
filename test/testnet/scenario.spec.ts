/** Scenarios as people write them: what is refused, by which words; when steps are due; who is meant. */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { Random } from '../../src/math/random.ts'
import { runTestnet } from '../../testnet/run.ts'
import { checkScenario, parseScenario, type Scenario } from '../../testnet/scenarios/schema.ts'
import { type Facts, Script } from '../../testnet/scenarios/script.ts'
import { findScenario, stories } from '../../testnet/scenarios/stories.ts'
import { temporaryFolder } from '../temporary.ts'
import { checkNames, checkWhom, expandEach, resolveWhom, type Seating } from '../../testnet/scenarios/whom.ts'

const scenario = (steps: unknown[], more = {}): Scenario =>
  checkScenario({ name: 'test', about: 'A test.', steps, ...more }, 'test')

describe('a scenario', () => {
  for (const name of Object.keys(stories))
    it(`${name} is built in, under its own name`, () => assert.equal(findScenario(name).scenario.name, name))

  const refused: { why: string; yaml: string; says: RegExp; hint: RegExp }[] = [
    { why: 'what is no YAML', yaml: 'name: [', says: /test\.yaml/, hint: /YAML/ },
    { why: 'what is no list of options', yaml: '- kill', says: /is not a scenario/, hint: /steps/ },
    {
      why: 'an unknown key',
      yaml: 'name: a\nabout: b\nstep: []',
      says: /the scenario: there is no step/,
      hint: /Did you mean steps\?/
    },
    { why: 'no step', yaml: 'name: a\nabout: b\nsteps: []', says: /steps/, hint: /docs\/scenarios\.md/ },
    {
      why: 'an unknown deed',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kil, whom: x }]',
      says: /steps\[0\]\.do: there is no kil/,
      hint: /Did you mean kill\?/
    },
    {
      why: 'an unknown key of a deed',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, agian: { afterSeconds: 1 } }]',
      says: /steps\[0\]: there is no agian/,
      hint: /Did you mean again\?/
    },
    {
      why: 'an unknown key of a time',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, at: { second: 1 } }]',
      says: /steps\[0\]\.at: there is no second/,
      hint: /Did you mean seconds\?/
    },
    {
      why: 'an unknown phase',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, at: { round: 1, phase: sleeping } }]',
      says: /steps\[0\]\.at\.phase/,
      hint: /docs/
    },
    {
      why: 'an unknown kind of organization',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: { agregator: world } }]',
      says: /steps\[0\]\.whom: there is no agregator/,
      hint: /Did you mean aggregator\?/
    },
    {
      why: 'a path that is none',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: { aggregator: code } }]',
      says: /begins with world/,
      hint: /docs/
    },
    {
      why: 'a name that nobody was given',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: { same: x } }]',
      says: /no step before it is `as: x`/,
      hint: /name/
    },
    { why: 'a field that is missing', yaml: 'name: a\nsteps: [{ do: heal }]', says: /: about is missing/, hint: /docs/ },
    {
      why: 'a deed to nobody',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill }]',
      says: /: steps\[0\]\.whom is missing/,
      hint: /docs/
    },
    { why: 'no step', yaml: 'name: a\nabout: b\nsteps: []', says: /steps: there is none/, hint: /docs/ },
    {
      why: 'the end of what never began',
      yaml: 'name: a\nabout: b\nsteps: [{ do: pause, whom: x }, { do: heal }]',
      says: /steps\[1\]: no step before it does a `partition`/,
      hint: /nothing to heal/
    },
    {
      why: 'a cut with somebody on both sides',
      yaml: 'name: a\nabout: b\nsteps: [{ do: partition, groups: [[x, y], x] }]',
      says: /steps\[0\]\.groups: x is in two groups/,
      hint: /both sides/
    },
    {
      why: 'a repetition without end',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, repeat: { everySeconds: 1 } }]',
      says: /no end/,
      hint: /times/
    },
    {
      why: 'two times at once',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, at: { seconds: 1 }, afterSeconds: 1 }]',
      says: /both/,
      hint: /one/
    },
    {
      why: 'a loss of more than half',
      yaml: 'name: a\nabout: b\nsteps: [{ do: slow, whom: x, loss: 0.9 }]',
      says: /steps\[0\]\.loss/,
      hint: /docs/
    },
    {
      why: 'an alias of nothing',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: *x }]',
      says: /test\.yaml: Unresolved alias.* x/,
      hint: /YAML/
    },
    {
      why: 'a range that ends before it begins',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, at: { seconds: [9, 2] } }]',
      says: /steps\[0\]\.at\.seconds: it ends before it begins/,
      hint: /docs/
    },
    {
      why: 'a duration in words',
      yaml: 'name: a\nabout: b\nsteps: [{ do: pause, whom: x, forSeconds: 5s }]',
      says: /steps\[0\]\.forSeconds: it is a number of seconds, or two/,
      hint: /docs/
    },
    {
      why: 'what is nobody',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: 5 }]',
      says: /steps\[0\]\.whom: it is an organization’s path, or one of { aggregator: … }/,
      hint: /docs/
    },
    {
      why: 'two kinds of time in one',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: x, at: { seconds: 1, round: 2 } }]',
      says: /steps\[0\]\.at: round does not go with seconds/,
      hint: /one of them/
    },
    {
      why: 'two kinds of organization in one',
      yaml: 'name: a\nabout: b\nsteps: [{ do: kill, whom: { aggregator: world, member: world } }]',
      says: /steps\[0\]\.whom: member does not go with aggregator/,
      hint: /one of them/
    },
    {
      why: 'a cut between each',
      yaml: 'name: a\nabout: b\nsteps: [{ do: partition, groups: [{ each: world }], repeat: { everySeconds: 1 } }]',
      says: /`each` stands alone/,
      hint: /repeat/
    }
  ]
  for (const { why, yaml, says, hint } of refused)
    it(`refuses ${why}`, () =>
      assert.throws(
        () => parseScenario(yaml, 'test.yaml'),
        (error: Error & { code: string; hint: string }) =>
          (error.code === 'SCENARIO_INVALID' && says.test(error.message) && hint.test(error.hint)) ||
          assert.fail(`${error.message} / ${error.hint}`)
      ))

  it('is no folder', () =>
    assert.throws(
      () => findScenario(import.meta.dirname),
      (error: Error & { code: string }) => error.code === 'USAGE' && /no such file/.test(error.message)
    ))

  it('names the nearest where a built-in one is meant', () =>
    assert.throws(
      () => findScenario('lost-agregator'),
      (error: Error & { hint: string }) => /Did you mean lost-aggregator\?/.test(error.hint)
    ))
})

/** Facts that a test moves on. */
class World implements Facts {
  seconds = 0
  rounds = new Map<string, number>()
  phases = new Map<string, ReturnType<Facts['phase']>>()
  round = (federation: string) =>
    federation === '*' ? Math.max(0, ...this.rounds.values()) : (this.rounds.get(federation) ?? 0)
  phase = (federation: string) => this.phases.get(federation) ?? null
  spare = new Set<string>()
  hasSpare = (federation: string) => this.spare.has(federation)
}

/** Plays until `untilSeconds` in steps of 0.1 s. @returns what was done, and when. */
function play(script: Script, world: World, untilSeconds: number): [number, string][] {
  const done: [number, string][] = []
  for (; world.seconds < untilSeconds; world.seconds = Math.round((world.seconds + 0.1) * 10) / 10)
    for (const step of script.due(world)) {
      done.push([world.seconds, `${step.do} ${'whom' in step && typeof step.whom === 'string' ? step.whom : ''}`.trim()])
      script.done(step, world)
    }
  return done
}

describe('the script of a scenario', () => {
  it('follows seconds, and steps after steps', () => {
    const { steps } = scenario([
      { do: 'kill', whom: 'a', at: { seconds: 2 } },
      { do: 'kill', whom: 'b', afterSeconds: 1.5 },
      { do: 'kill', whom: 'c' }
    ])
    const script = new Script(steps, new Random(1))
    assert.deepEqual(play(script, new World(), 5), [
      [2, 'kill a'],
      [3.5, 'kill b'],
      [3.6, 'kill c']
    ])
    assert.equal(script.over, true)
    assert.deepEqual(script.notPlayed, [])
  })

  it('waits for a round, and for a step of its aggregator in that round or a later one', () => {
    const { steps } = scenario([
      { do: 'kill', whom: 'a', at: { federation: 'world/x', round: 3 } },
      { do: 'kill', whom: 'b', at: { federation: 'world/x', round: 4, phase: 'proposing', laterBySeconds: 1 } }
    ])
    const [script, world] = [new Script(steps, new Random(1)), new World()]
    world.phases.set('world/x', 'proposing')
    assert.deepEqual(play(script, world, 2), [], 'round 1 is being made')
    world.rounds.set('world/x', 2)
    assert.deepEqual(play(script, world, 4), [[2, 'kill a']])
    world.rounds.set('world/x', 5)
    world.phases.set('world/x', 'collecting')
    assert.deepEqual(play(script, world, 6), [])
    assert.deepEqual(script.notPlayed, [steps[1]])
    world.phases.set('world/x', 'proposing')
    assert.deepEqual(play(script, world, 9), [[7, 'kill b']])
  })

  it('waits for a step of a round in which the federation can lose a voter', () => {
    const at = { federation: 'world/x', round: 2, phase: 'collecting' }
    const [step] = scenario([{ do: 'kill', whom: 'a', at, whenSpare: 'world/x' }]).steps
    const [script, world] = [new Script([step!], new Random(1)), new World()]
    world.rounds.set('world/x', 1)
    world.phases.set('world/x', 'collecting')
    assert.deepEqual(play(script, world, 2), [])
    world.spare.add('world/x')
    world.phases.set('world/x', 'proposing')
    assert.deepEqual(play(script, world, 4), [])
    world.phases.set('world/x', 'collecting')
    assert.deepEqual(play(script, world, 5), [[4, 'kill a']])
  })

  it('repeats as often as it is told, or until a round', () => {
    const { steps } = scenario([
      { do: 'kill', whom: 'a', at: { seconds: 1 }, repeat: { everySeconds: 2, times: 3 } },
      { do: 'kill', whom: 'b', at: { seconds: 1 }, repeat: { everySeconds: 3, untilRound: 4 } }
    ])
    const [script, world] = [new Script(steps, new Random(1)), new World()]
    const first = play(script, world, 8)
    assert.deepEqual(
      first.filter(([, what]) => what === 'kill a').map(([seconds]) => seconds),
      [1, 3, 5]
    )
    assert.deepEqual(
      first.filter(([, what]) => what === 'kill b').map(([seconds]) => seconds),
      [1, 4, 7]
    )
    world.rounds.set('world/y', 4)
    assert.deepEqual(play(script, world, 20), [])
    assert.equal(script.over, true)
  })

  it('asks again for a step that could not be done', () => {
    const { steps } = scenario([
      { do: 'kill', whom: 'a' },
      { do: 'kill', whom: 'b', afterSeconds: 1 }
    ])
    const [script, world] = [new Script(steps, new Random(1)), new World()]
    for (world.seconds = 0; world.seconds < 3; world.seconds++)
      assert.deepEqual(
        script.due(world).map(step => 'whom' in step && step.whom),
        ['a']
      )
    script.done(steps[0]!, world)
    assert.deepEqual(play(script, world, 6), [[4, 'kill b']])
  })

  it('draws the same times from the same seed, and others from another', () => {
    const times = (seed: number) =>
      play(new Script(scenario([{ do: 'kill', whom: 'a', at: { seconds: [0, 50] } }]).steps, new Random(seed)), new World(), 51)
    assert.deepEqual(times(1), times(1))
    assert.notDeepEqual(times(1), times(2))
  })
})

describe('who is meant by a step', () => {
  const nodes = ['code/a', 'code/b', 'code/c', 'prose/d'].map(path => ({
    path,
    federation: `world/${path.slice(0, path.indexOf('/'))}`,
    eligible: path !== 'code/c'
  }))
  const seating: Seating = {
    nodes,
    aggregator: federation => ({ 'world/code': 'code/a', 'world/prose': null })[federation] ?? null,
    delegates: () => ['code/a', 'code/b', 'code/c'],
    named: new Map([['victim', ['code/c']]])
  }
  const rows: { who: Parameters<typeof resolveWhom>[0]; paths: string[] | null; why: string }[] = [
    { why: 'a path', who: 'code/b', paths: ['code/b'] },
    { why: 'a path of one that cannot be meant now', who: 'code/c', paths: null },
    { why: 'an aggregator', who: { aggregator: 'world/code' }, paths: ['code/a'] },
    { why: 'an aggregator that nobody knows', who: { aggregator: 'world/prose' }, paths: null },
    { why: 'a delegate that does not lead', who: { delegate: 'world/code' }, paths: ['code/b'] },
    { why: 'a member that does not lead', who: { member: 'world/code' }, paths: ['code/b'] },
    { why: 'all of a federation that can be meant', who: { all: 'world/code' }, paths: ['code/a', 'code/b'] },
    { why: 'all of the tree', who: { all: 'world' }, paths: ['code/a', 'code/b', 'prose/d'] },
    { why: 'whom an earlier step met, whatever became of it', who: { same: 'victim' }, paths: ['code/c'] },
    { why: 'more than there are', who: { random: 4 }, paths: null },
    { why: 'several, each once', who: ['code/b', { member: 'world/code' }, 'prose/d'], paths: ['code/b', 'prose/d'] }
  ]
  for (const { why, who, paths } of rows)
    it(`${why}: ${JSON.stringify(who)}`, () => assert.deepEqual(resolveWhom(who, seating, new Random(1)), paths))

  it('draws each by the seed, and nobody twice', () => {
    const drawn = new Set<string>()
    for (let seed = 0; seed < 50; seed++) {
      const pair = resolveWhom({ random: 2 }, seating, new Random(seed))!
      assert.equal(new Set(pair).size, 2)
      assert.deepEqual(resolveWhom({ random: 2 }, seating, new Random(seed)), pair, `seed ${seed}`)
      for (const path of pair) drawn.add(path)
    }
    assert.deepEqual([...drawn].sort(), ['code/a', 'code/b', 'prose/d'])
  })

  it('`each` becomes a step for everybody, at intervals', () => {
    const { steps } = scenario([{ do: 'stop', whom: { each: 'world/code' }, at: { seconds: 1 }, repeat: { everySeconds: 4 } }])
    assert.deepEqual(play(new Script(expandEach(steps, nodes), new Random(1)), new World(), 20), [
      [1, 'stop code/a'],
      [5, 'stop code/b'],
      [9, 'stop code/c']
    ])
  })

  it('refuses organizations and federations that are not there', () => {
    const federations = [{ path: 'world' }, { path: 'world/code' }]
    for (const who of ['code/x', { aggregator: 'world/x' }, [{ all: 'world/x' }]])
      assert.throws(
        () => checkWhom(who, nodes, federations),
        (error: Error & { code: string }) => error.code === 'SCENARIO_INVALID' && /x/.test(error.message)
      )
    checkWhom(['code/a', { all: 'world/code' }, { random: 2 }, { same: 'x' }], nodes, federations)
  })

  const step = { do: 'kill', whom: 'code/a', at: { seconds: 1 } }
  const cut = (...groups: unknown[]) => ({ do: 'partition', groups, at: { seconds: 1 } })
  const impossible: { why: string; steps: unknown[]; more?: object; says: RegExp }[] = [
    {
      why: 'a federation that may end early and is not there',
      steps: [step],
      more: { mayEndEarly: ['world/x'] },
      says: /world\/x/
    },
    { why: 'a federation that is waited for and is not there', steps: [{ ...step, whenSpare: 'world/x' }], says: /world\/x/ },
    { why: 'the other end of a link that is not there', steps: [{ ...step, do: 'slow', to: 'code/x' }], says: /code\/x/ },
    { why: 'more of them than there are', steps: [{ ...step, whom: { random: 5 } }], says: /draws 5 .* has 4/ },
    { why: 'an organization on both sides', steps: [cut({ all: 'world/code' }, 'code/b')], says: /code\/b is in two groups/ },
    { why: 'a cut through nothing', steps: [cut({ all: 'world' })], says: /nothing is cut/ }
  ]
  for (const { why, steps, more, says } of impossible)
    it(`refuses ${why}`, () => {
      const federations = [{ path: 'world' }, { path: 'world/code' }, { path: 'world/prose' }]
      assert.throws(
        () => checkNames(scenario(steps, more), { nodes, federations }),
        (error: Error & { code: string }) => error.code === 'SCENARIO_INVALID' && says.test(error.message)
      )
    })

  it('waits where all of a federation, or those of a step that is yet to come, are nobody', () => {
    const none = { ...seating, nodes: nodes.map(node => ({ ...node, eligible: false })) }
    assert.equal(resolveWhom({ all: 'world/code' }, none, new Random(1)), null)
    assert.equal(resolveWhom({ same: 'nobody' }, seating, new Random(1)), null)
  })
})

describe('a testnet that is refused', () => {
  it('leaves its folder as empty as it was, so that the same --out can be given again', async () => {
    const out = temporaryFolder()
    const options = {
      data: null,
      rounds: 1,
      steps: 1,
      charter: {},
      start: null,
      out,
      seed: 0,
      alone: false,
      scenario: scenario([{ do: 'kill', whom: 'nobody/here', at: { seconds: 1 } }])
    }
    const events = { line: () => undefined, tick: () => undefined, aloneProgress: () => undefined }
    await assert.rejects(runTestnet(options, events, new AbortController().signal), { code: 'SCENARIO_INVALID' })
    assert.deepEqual(readdirSync(out), [])
  })
})
