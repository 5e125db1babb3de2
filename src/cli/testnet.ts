/** `worldlm testnet`: flags, what is shown while it runs, what is said at the end. */
import type { Output } from './output.ts'
import { runTestnet } from '../../testnet/run.ts'

export async function runTestnetCommand(options: any, output: Output): Promise<void> {
  const abort = new AbortController()
  process.on('SIGINT', () => abort.abort())
  const t = performance.now()
  const r = await runTestnet(
    {
      data: options.data ?? null,
      rounds: options.rounds,
      steps: options.steps,
      charter: { model: options.model },
      out: options.out ?? `runs/t${Date.now()}`,
      seed: options.seed,
      alone: options.alone
    },
    {
      line: text => output.line(`${((performance.now() - t) / 1000).toFixed(1)} ${text}`),
      tick: () => undefined,
      aloneProgress: () => undefined
    },
    abort.signal
  )
  for (const e of r.observation.evaluations.values()) output.line(JSON.stringify(e))
  for (const e of r.observation.times) output.line(JSON.stringify(e))
  for (const e of r.alone) output.line(JSON.stringify(e))
  for (const e of r.observation.warnings) output.line(JSON.stringify(e))
  output.line(`${r.stalled} ${r.seconds}`)
}
