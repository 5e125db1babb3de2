/**
 * Plays a scenario on a testnet: asks the script what is due, finds who is meant, does it to real processes, links and disks, and notes
 * each as a fault.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Random } from '../../src/math/random.ts'
import type { Disks } from '../disks.ts'
import type { Fault, FaultKind } from '../faults.ts'
import { emptyDisk } from './disk-loss.ts'
import type { Observation } from '../observation.ts'
import type { FaultyNetwork } from '../proxy.ts'
import { isRunning, type TestnetNode } from '../spawn.ts'
import { draw, type Facts, Script } from './script.ts'
import type { Range, Scenario, ScenarioStep, Who } from './schema.ts'
import { expandEach, resolveWhom, type Seating } from './whom.ts'

export interface Stage {
  nodes: TestnetNode[]
  observation: Observation
  network: FaultyNetwork | null
  disks: Disks | null
  rounds: number
  /** Starts the node's process and watches it. */
  start(node: TestnetNode): Promise<void>
  line(text: string): void
}

type Role = 'aggregator' | 'delegate' | 'member'
type StepOf<Do extends ScenarioStep['do']> = Extract<ScenarioStep, { do: Do }>

export class Director {
  readonly #stage: Stage
  readonly #script: Script
  readonly #random: Random
  readonly #named = new Map<string, string[]>()
  /** As what a node was met last. */
  readonly #roles = new Map<TestnetNode, Role>()
  /** What was said to happen later: heal, resume, start again. `ends`: which fault ends by it, as `mend` names it; of each there is one. */
  readonly #later: { atSeconds: number; ends: string; act: () => void }[] = []
  /** Faults that are not mended, by what they met. */
  readonly #unmended = new Map<string, Fault[]>()
  #starting = 0
  readonly #began: number

  /** Made when all nodes are up. */
  constructor(scenario: Scenario, seed: number, stage: Stage) {
    this.#stage = stage
    this.#began = stage.observation.seconds
    this.#random = new Random(`scenario/${scenario.name}/${seed}`)
    const nodes = stage.nodes.map(({ plan }) => plan)
    this.#script = new Script(expandEach(scenario.steps, nodes), this.#random.fork('when'))
  }

  /** Nodes that will be started, or links healed, yet: the run is not over before. */
  get owes(): boolean {
    return this.#later.length > 0 || this.#starting > 0
  }

  /** Steps that never came to be done, as a person reads them. */
  get notPlayed(): string[] {
    return this.#script.notPlayed.map(({ do: what, at, ...step }) => {
      const whom = 'whom' in step ? step.whom : 'groups' in step ? step.groups : ''
      const when = at === undefined ? '' : `, at ${wordsOf(at)}`
      return `${what} ${wordsOf(whom)}`.trim() + when
    })
  }

  /** Does what is due. Called often. */
  tick(): void {
    const facts = this.#facts()
    for (const one of this.#later.filter(({ atSeconds }) => atSeconds <= facts.seconds)) {
      const place = this.#later.indexOf(one)
      if (place === -1) continue
      this.#later.splice(place, 1)
      one.act()
    }
    for (const step of this.#script.due(facts)) if (this.#perform(step)) this.#script.done(step, facts)
  }

  #facts(): Facts {
    const { observation } = this.#stage
    return {
      seconds: observation.seconds - this.#began,
      round: federation =>
        federation === '*'
          ? Math.max(0, ...[...observation.federations.values()].map(({ round }) => round))
          : (observation.federations.get(federation)?.round ?? 0),
      phase: federation => observation.federations.get(federation)?.phase ?? null,
      hasSpare: federation => observation.hasSpare(federation)
    }
  }

  /** @returns false if nobody fits yet: it is tried again. */
  #perform(step: ScenarioStep): boolean {
    switch (step.do) {
      case 'kill':
      case 'stop':
        return this.#each(step, isUp, node => this.#end(step, node))
      case 'pause':
        return this.#each(step, isUp, node => this.#pause(step, node))
      case 'resume':
        return this.#each(
          step,
          ({ paused }) => paused,
          node => this.#resume(node)
        )
      case 'start':
        return this.#each(
          step,
          node => !isRunning(node),
          node => void this.#start(node, step.disk)
        )
      case 'partition':
        return this.#partition(step)
      case 'heal':
        this.#heal()
        return true
      case 'slow':
        return this.#slow(step)
      case 'fill-disk':
        return this.#each(step, isUp, node => this.#fillDisk(step, node))
      case 'free-disk':
        return this.#each(
          step,
          () => true,
          node => {
            this.#freeDisk(node)
            if (isRunning(node)) node.endPlanned = false
          }
        )
    }
  }

  #each(
    step: ScenarioStep & { whom: Who | Who[] },
    eligible: (node: TestnetNode) => boolean,
    act: (node: TestnetNode) => void
  ): boolean {
    // `same` names whom a step met, whatever became of them: what cannot be done to one now is not done to it.
    const nodes = this.#find(step.whom, eligible)?.filter(eligible) ?? []
    if (nodes.length === 0) return false
    if (step.as !== undefined)
      this.#named.set(
        step.as,
        nodes.map(({ plan }) => plan.path)
      )
    for (const node of nodes) act(node)
    return true
  }

  #find(whom: Who | Who[], eligible: (node: TestnetNode) => boolean): TestnetNode[] | null {
    const { nodes, observation } = this.#stage
    const seating: Seating = {
      nodes: nodes.map(node => ({ path: node.plan.path, federation: node.plan.federation, eligible: eligible(node) })),
      aggregator: federation => observation.aggregatorOf(federation),
      delegates: federation => observation.delegatesOf(federation),
      named: this.#named
    }
    const paths = resolveWhom(whom, seating, this.#random)
    return paths === null ? null : nodes.filter(({ plan }) => paths.includes(plan.path))
  }

  // ── processes ──

  #end(step: StepOf<'kill' | 'stop'>, node: TestnetNode): void {
    node.endPlanned = true
    this.#fault(`${step.do}-${this.#roleOf(node, step.whom)}`, [node], node.plan.path)
    node.process?.kill(step.do === 'kill' ? 'SIGKILL' : 'SIGTERM')
    const { again } = step
    if (again !== undefined) this.#after(draw(again.afterSeconds, this.#random), () => void this.#start(node, again.disk))
  }

  async #start(node: TestnetNode, disk: 'old' | 'empty'): Promise<void> {
    const { observation, line } = this.#stage
    this.#starting++
    try {
      // It was told to end, and may take its time: two processes in one folder are none.
      for (const began = performance.now(); isEnding(node); await sleep(endingPollMs))
        if (performance.now() - began > endingMsMax) throw new Error('the process before it does not end')
      // Another step has started it in the meantime.
      if (isRunning(node)) return
      const first = node.process === null
      if (!first && disk === 'empty') emptyDisk(node)
      if (first) this.#fault('late-start', [node], node.plan.path)
      await this.#stage.start(node)
      line(`${node.plan.path} is started${first ? '' : ` again with ${disk === 'old' ? 'its disk' : 'an empty disk'}`}`)
      this.#mend(node.plan.path)
      observation.lastProgressAt = performance.now()
    } catch (error) {
      if ((error as Error).name !== 'AbortError') line(`${node.plan.path} could not be started: ${(error as Error).message}`)
    } finally {
      this.#starting--
    }
  }

  #pause(step: StepOf<'pause'>, node: TestnetNode): void {
    node.paused = true
    this.#fault(`pause-${this.#roleOf(node, step.whom)}`, [node], node.plan.path)
    node.process?.kill('SIGSTOP')
    this.#until(step.forSeconds, node.plan.path, () => this.#resume(node))
  }

  #resume(node: TestnetNode): void {
    this.#forget(node.plan.path)
    node.paused = false
    node.process?.kill('SIGCONT')
    this.#stage.line(`${node.plan.path} goes on`)
    this.#mend(node.plan.path)
  }

  #roleOf(node: TestnetNode, whom: Who | Who[]): Role {
    const leads = this.#stage.observation.ledBy(node).length > 0
    const named = typeof whom === 'object' && 'same' in whom ? this.#roles.get(node) : undefined
    const role = leads ? 'aggregator' : (named ?? (typeof whom === 'object' && 'delegate' in whom ? 'delegate' : 'member'))
    this.#roles.set(node, role)
    return role
  }

  // ── links ──

  #partition(step: StepOf<'partition'>): boolean {
    const groups: TestnetNode[][] = []
    for (const whom of step.groups) {
      const group = this.#find(whom, () => true)
      if (group === null) return false
      groups.push(group)
    }
    const rest = this.#stage.nodes.filter(node => !groups.some(group => group.includes(node)))
    if (rest.length > 0) groups.push(rest)
    this.#stage.network!.cut(groups.map(group => group.map(({ plan }) => plan.path)))
    const named = groups.map((group, place) => {
      const whom = step.groups[place]
      return typeof whom === 'object' && 'all' in whom ? whom.all : group.map(({ plan }) => plan.path).join(' + ')
    })
    this.#fault('partition', this.#stage.nodes.filter(isRunning), 'partition', named.join(' | '))
    this.#until(step.forSeconds, 'partition', () => this.#heal())
    return true
  }

  #heal(): void {
    this.#forget('partition')
    this.#stage.network!.heal()
    this.#stage.line('the network is whole again')
    this.#mend('partition')
  }

  #slow(step: StepOf<'slow'>): boolean {
    const { network } = this.#stage
    // One that is drawn is one that is there; a name may be of one that comes late.
    const left = this.#find(step.whom, isRunning) ?? this.#find(step.whom, () => true)
    const right = this.#find(step.to ?? { all: 'world' }, () => true)
    if (left === null || right === null) return false
    const { latencyMs, bytesPerSecond, loss } = step
    const pairs = left.flatMap(one =>
      right.filter(other => other !== one).map(other => [one.plan.path, other.plan.path] as const)
    )
    const condition = { latencyMs, bytesPerSecond, loss }
    for (const [one, other] of pairs) network!.slow(one, other, condition)
    const rate = bytesPerSecond > 0 ? `${bytesPerSecond / 1000} kB/s` : 'no limit of bytes'
    const detail = `${latencyMs} ms each way, ${rate}, ${loss * 100} % of segments lost`
    const place = `slow ${left.map(({ plan }) => plan.path).join()}`
    const there = left.filter(isRunning)
    this.#fault('slow-link', there.length > 0 ? there : left, place, detail)
    this.#until(step.forSeconds, place, () => {
      // What another step has set since is its affair.
      for (const [one, other] of pairs) network!.endSlow(one, other, condition)
      this.#stage.line(`the links of ${left.map(({ plan }) => plan.path).join(', ')} are as before`)
      this.#mend(place)
    })
    return true
  }

  // ── disks ──

  #fillDisk(step: StepOf<'fill-disk'>, node: TestnetNode): void {
    // A node may stop on a full disk: that is how it keeps what it has.
    node.endPlanned = true
    this.#fault('full-disk', [node], node.plan.path, this.#stage.disks!.description)
    this.#stage.disks!.fill(node)
    const { again } = step
    if (again !== undefined)
      this.#after(draw(again.afterSeconds, this.#random), () => {
        this.#freeDisk(node)
        // One that has just met the end of its disk is still closing.
        this.#after(stopSeconds, () => {
          node.endPlanned = false
          if (!isRunning(node)) void this.#start(node, again.disk)
          else this.#mend(node.plan.path)
        })
      })
  }

  #freeDisk(node: TestnetNode): void {
    this.#stage.disks!.free(node)
    this.#stage.line(`${node.plan.path} has room on its disk again`)
  }

  // ── notes ──

  /** @param place - what `mend` names: a node's path, or a link. */
  #fault(kind: FaultKind, nodes: TestnetNode[], place: string, detail = ''): void {
    const { observation, line } = this.#stage
    const fault = observation.plan(kind, nodes, detail)
    this.#unmended.set(place, [...(this.#unmended.get(place) ?? []), fault])
    const led = nodes.length === 1 ? observation.ledBy(nodes[0]!) : []
    const whom = nodes.length === this.#stage.nodes.length ? '' : ` ${nodes.map(({ plan }) => plan.path).join(', ')}`
    line(
      `SCENARIO ${kind}${whom}${led.length > 0 ? `, aggregator of ${led.join(', ')}` : ''}${detail === '' ? '' : `: ${detail}`}`
    )
  }

  #mend(place: string): void {
    for (const fault of this.#unmended.get(place) ?? []) this.#stage.observation.mend(fault)
    this.#unmended.delete(place)
  }

  #after(seconds: number, act: () => void, ends = ''): void {
    this.#later.push({ atSeconds: this.#stage.observation.seconds - this.#began + seconds, ends, act })
  }

  /** How a fault ends, if it is to end by itself. The end of one that it replaces (another cut) does not end this one. */
  #until(forSeconds: Range | undefined, place: string, act: () => void): void {
    this.#forget(place)
    if (forSeconds !== undefined) this.#after(draw(forSeconds, this.#random), act, place)
  }

  #forget(place: string): void {
    const kept = this.#later.filter(({ ends }) => ends !== place)
    this.#later.splice(0, this.#later.length, ...kept)
  }
}

/** As it stands in a scenario, without its quotes. */
const wordsOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value).replaceAll('"', ''))

/** A node that stops by itself takes no longer. */
const stopSeconds = 2
/** One that is told to stop is given ten seconds by itself, and the step of a large model that it is at. */
const endingMsMax = 60_000
const endingPollMs = 20

const isEnding = (node: TestnetNode): boolean => isRunning(node) && node.endPlanned

/** One that is just starting is left alone: it has nothing to lose yet. */
const isUp = (node: TestnetNode): boolean => isRunning(node) && node.api !== '' && !node.paused && !node.endPlanned
