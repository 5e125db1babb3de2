/** Faults that overlap, as the director plays them on nodes, links and a clock of the test's own. */
import assert from 'node:assert/strict'
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises'
import { NodeFolder } from '../../src/node/folder.ts'
import { Observation } from '../../testnet/observation.ts'
import type { FaultyNetwork } from '../../testnet/proxy.ts'
import { Director } from '../../testnet/scenarios/director.ts'
import { checkScenario } from '../../testnet/scenarios/schema.ts'
import type { TestnetNode } from '../../testnet/spawn.ts'

class StillObservation extends Observation {
  at = 0
  override get seconds(): number {
    return this.at
  }
}

/** Two organizations whose processes note what they are told, and end only when the test says so. */
class Stage {
  readonly told: string[] = []
  readonly observation = new StillObservation(5)
  readonly nodes = ['a', 'b'].map(name => this.#node(`x/${name}`))
  readonly #director: Director

  constructor(steps: unknown[]) {
    for (const node of this.nodes) this.observation.addNode(node)
    this.#director = new Director(checkScenario({ name: 'test', about: 'A test.', steps }, 'test'), 1, {
      nodes: this.nodes,
      observation: this.observation,
      network: this.#network(),
      disks: null,
      rounds: 5,
      start: node => this.#start(node),
      line: () => undefined
    })
  }

  get owes(): boolean {
    return this.#director.owes
  }

  get notPlayed(): string[] {
    return this.#director.notPlayed
  }

  /** Lets the clock run on in steps of 0.1 s. */
  async until(seconds: number): Promise<void> {
    for (; this.observation.at < seconds; this.observation.at = Math.round((this.observation.at + 0.1) * 10) / 10) {
      this.#director.tick()
      await turn()
    }
  }

  end(path: string): void {
    this.nodes.find(({ plan }) => plan.path === path)!.ended = { code: null, signal: 'SIGKILL' }
  }

  #note(what: string): void {
    this.told.push(`${this.observation.at} ${what}`)
  }

  #node(path: string): TestnetNode {
    const text = { path, folder: '' } as TestnetNode['plan']['text']
    const node: TestnetNode = {
      plan: { path, folder: path, text, federation: 'world/x', witnessOf: [] },
      folder: new NodeFolder('nowhere'),
      peer: path,
      process: null,
      api: 'http://127.0.0.1:1',
      addresses: [],
      startedAtMs: 0,
      ended: null,
      paused: false,
      endPlanned: false
    }
    node.process = {
      kill: (signal: string) => {
        this.#note(`${signal} ${path}`)
        return true
      }
    } as unknown as TestnetNode['process']
    return node
  }

  async #start(node: TestnetNode): Promise<void> {
    this.#note(`start ${node.plan.path}`)
    Object.assign(node, { ended: null, endPlanned: false })
  }

  #network(): FaultyNetwork {
    const links = new Map<string, object>()
    const network: Pick<FaultyNetwork, 'cut' | 'heal' | 'slow' | 'endSlow'> = {
      cut: groups => this.#note(`cut ${groups.map(group => group.join('+')).join(' | ')}`),
      heal: () => this.#note('heal'),
      slow: (left, right, condition) => {
        this.#note(`slow ${left} ${right} ${condition?.latencyMs}`)
        links.set(left + right, condition!)
      },
      endSlow: (left, right, condition) => {
        if (links.get(left + right) === condition) this.#note(`fast ${left} ${right}`)
      }
    }
    return network as FaultyNetwork
  }
}

describe('the director of a scenario', () => {
  it('does not end a cut by the end of the one that it replaced', async () => {
    const stage = new Stage([
      { do: 'partition', groups: ['x/a'], at: { seconds: 1 }, forSeconds: 2 },
      { do: 'partition', groups: ['x/b'], at: { seconds: 2 }, forSeconds: 3 }
    ])
    await stage.until(8)
    assert.deepEqual(stage.told, ['1 cut x/a | x/b', '2 cut x/b | x/a', '5 heal'])
  })

  it('does not end a pause by the end of an earlier one', async () => {
    const stage = new Stage([
      { do: 'pause', whom: 'x/a', at: { seconds: 1 }, forSeconds: 4 },
      { do: 'resume', whom: 'x/a', at: { seconds: 2 } },
      { do: 'pause', whom: 'x/a', at: { seconds: 3 }, forSeconds: 4 }
    ])
    await stage.until(9)
    assert.deepEqual(stage.told, ['1 SIGSTOP x/a', '2 SIGCONT x/a', '3 SIGSTOP x/a', '7 SIGCONT x/a'])
  })

  it('leaves a link as the last step that met it wants it', async () => {
    const stage = new Stage([
      { do: 'slow', whom: 'x/a', to: 'x/b', latencyMs: 10, at: { seconds: 1 }, forSeconds: 2 },
      { do: 'slow', whom: ['x/a', 'x/b'], to: 'x/b', latencyMs: 20, at: { seconds: 2 }, forSeconds: 3 }
    ])
    await stage.until(8)
    assert.deepEqual(stage.told, ['1 slow x/a x/b 10', '2 slow x/a x/b 20', '5 fast x/a x/b'])
  })

  it('kills a node once, whoever asks for it twice, and starts it once', async () => {
    const stage = new Stage([
      { do: 'kill', whom: 'x/a', as: 'it', at: { seconds: 1 }, again: { afterSeconds: 3 } },
      { do: 'kill', whom: { same: 'it' }, at: { seconds: 1 }, again: { afterSeconds: 1 } }
    ])
    await stage.until(1.5)
    stage.end('x/a')
    await stage.until(9)
    // The second waits for a node to kill; then it has one.
    assert.deepEqual(stage.told.slice(0, 3), ['1 SIGKILL x/a', '4 start x/a', '4 SIGKILL x/a'])
  })

  it('starts a node that a step has started already no second time', async () => {
    const stage = new Stage([
      { do: 'kill', whom: 'x/a', at: { seconds: 1 }, again: { afterSeconds: 3 } },
      { do: 'start', whom: 'x/a', at: { seconds: 2 } }
    ])
    await stage.until(1.5)
    stage.end('x/a')
    await stage.until(6)
    assert.deepEqual(stage.told, ['1 SIGKILL x/a', '2 start x/a'])
  })

  it('starts a node again once it has ended, not while it is ending', async () => {
    const stage = new Stage([{ do: 'stop', whom: 'x/a', at: { seconds: 1 }, again: { afterSeconds: 0 } }])
    await stage.until(3)
    assert.deepEqual(stage.told, ['1 SIGTERM x/a'])
    stage.end('x/a')
    for (let tries = 0; stage.told.length < 2 && tries < 500; tries++) await sleep(10)
    assert.deepEqual(stage.told, ['1 SIGTERM x/a', '3 start x/a'])
  })

  it('waits where a step could be done to nobody', async () => {
    const stage = new Stage([
      { do: 'start', whom: { all: 'world/x' }, at: { seconds: 1 } },
      { do: 'kill', whom: 'x/a', at: { seconds: 2 } }
    ])
    await stage.until(4)
    assert.deepEqual(stage.notPlayed, ['start {all:world/x}, at {seconds:1}'])
    stage.end('x/a')
    await stage.until(5)
    assert.deepEqual(stage.told, ['2 SIGKILL x/a', '4 start x/a'])
  })

  it('owes a start until it is done, and then the fault is mended', async () => {
    const stage = new Stage([{ do: 'kill', whom: 'x/a', at: { seconds: 1 }, again: { afterSeconds: 3 } }])
    const owed: boolean[] = []
    await stage.until(0.5)
    owed.push(stage.owes)
    await stage.until(2)
    owed.push(stage.owes)
    await stage.until(4.5)
    assert.deepEqual(stage.told, ['1 SIGKILL x/a'])
    owed.push(stage.owes)
    stage.end('x/a')
    for (let tries = 0; stage.owes && tries < 500; tries++) await sleep(10)
    await stage.until(9)
    assert.deepEqual([...owed, stage.owes], [false, true, true, false])
    assert.deepEqual(
      stage.observation.faults.map(({ mendedAtSeconds }) => mendedAtSeconds),
      [4.5]
    )
  })

  it('does nothing to whoever cannot be met, and kills the aggregator once it is awake', async () => {
    const stage = new Stage([
      { do: 'pause', whom: 'x/a', at: { seconds: 1 }, forSeconds: 3 },
      { do: 'kill', whom: { aggregator: 'world/x' }, at: { seconds: 2 } },
      { do: 'kill', whom: { member: 'world/x' }, at: { seconds: 2 } }
    ])
    stage.observation.take(stage.nodes[0]!, { type: 'aggregator', federation: 'world/x', peer: 'x/a', term: 1, seq: 1, at: '' })
    await stage.until(3)
    assert.deepEqual(stage.told, ['1 SIGSTOP x/a', '2 SIGKILL x/b'])
    await stage.until(5)
    assert.deepEqual(stage.told.slice(2), ['4 SIGCONT x/a', '4 SIGKILL x/a'])
  })
})
