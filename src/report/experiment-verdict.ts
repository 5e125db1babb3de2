/** What an experiment's figures show and do not show, in sentences. */
import { counterpart, type ExperimentReport, type MethodReport } from './experiment-schema.ts'

/** Differences below this share are noise with one seed. */
const noise = 0.01

export function experimentVerdict(report: ExperimentReport): string[] {
  const { methods, seeds, organizations, rounds } = report
  const sentences: string[] = []
  for (const one of methods) {
    const local = counterpart(report, 'local', one)
    if (local !== undefined && one.attention.down.length > 0) sentences.push(besideLocal(report, one, local))
  }
  for (const one of methods) {
    const fedavg = counterpart(report, 'fedavg', one)
    if (fedavg !== undefined && one.method.startsWith('worldlm')) sentences.push(...besideFedavg(one, fedavg))
  }
  for (const { name, runs } of methods)
    for (const { seed, diverged } of runs)
      if (diverged !== null) sentences.push(`${name} diverged in round ${diverged.round} (seed ${seed}): ${diverged.message}.`)
  sentences.push(
    seeds.length === 1
      ? `One seed: a difference below ${noise * 100} % may be noise. --seeds 0,1,2 gives a spread.`
      : `${seeds.length} seeds: a difference smaller than the spread in brackets may be noise.`,
    `It does not show how this goes on after ${rounds} rounds, with larger models, with text of other kinds than these ${organizations.length} organizations have, or over a network that loses members.`
  )
  return sentences.filter(sentence => sentence !== '')
}

const endOf = (method: MethodReport) => method.curve.at(-1)

function besideLocal({ organizations }: ExperimentReport, method: MethodReport, local: MethodReport): string {
  const [mine, alone] = [endOf(method), endOf(local)]
  const [end, other] = [mine?.mean.personal.perplexity, alone?.mean.personal.perplexity]
  if (mine === undefined || alone === undefined || end === null || end === undefined || other === null || other === undefined)
    return ''
  const ratios = organizations.flatMap(({ path }) => {
    const [own, its] = [mine.organizations[path]?.personal.perplexity, alone.organizations[path]?.personal.perplexity]
    return own === null || own === undefined || its === null || its === undefined ? [] : [{ path, ratio: own / its }]
  })
  const worst = ratios.reduce((most, one) => (one.ratio > most.ratio ? one : most), ratios[0]!)
  const better = ratios.filter(({ ratio }) => ratio < 1).length
  return `${method.name}: personal models end at ${(end / other).toFixed(3)} of training alone in the mean (perplexity ${end.toFixed(3)} against ${other.toFixed(3)}); ${better} of ${ratios.length} organizations gain, the worst off is ${worst.path} at ${worst.ratio.toFixed(3)}.`
}

function besideFedavg(method: MethodReport, fedavg: MethodReport): string[] {
  const ratios = method.curve.flatMap(point => {
    const other = fedavg.curve.find(({ round }) => round === point.round)?.mean.aggregated.perplexity
    const own = point.mean.aggregated.perplexity
    return other === null || other === undefined || own === null ? [] : [{ round: point.round, ratio: other / own }]
  })
  const end = ratios.at(-1)
  if (end === undefined) return []
  const widest = ratios.reduce((most, one) => (one.ratio > most.ratio ? one : most), end)
  return [
    `Right after aggregation, fedavg’s perplexity is ${end.ratio.toFixed(2)} times that of ${method.name} at the end, ${widest.ratio.toFixed(2)} times at its widest (round ${widest.round}).`
  ]
}
