/** `curves.csv` of an experiment: a line a value, long format, for any program that draws. */
import { quote } from './csv.ts'
import type { ExperimentReport } from './experiment-schema.ts'

const head = 'method,swept,seed,path,round,model,perplexity,bitsPerByte,tokens,bytesUp,bytesDown'

export function experimentCsv(report: ExperimentReport): string {
  const rows = report.methods.flatMap(({ method, swept, runs }) =>
    runs.flatMap(({ seed, curve }) =>
      curve.flatMap(({ round, tokens, bytesUp, bytesDown, organizations }) =>
        Object.entries(organizations).flatMap(([path, figures]) =>
          (['personal', 'aggregated', 'federation'] as const).flatMap(kind => {
            const figure = figures[kind]
            if (figure === null) return []
            const { perplexity, bitsPerByte } = figure
            const options = Object.entries(swept).map(([key, value]) => `${key}=${value}`)
            return [
              [
                method,
                options.join(' '),
                seed,
                path,
                round,
                kind,
                perplexity ?? '',
                bitsPerByte ?? '',
                tokens,
                bytesUp,
                bytesDown
              ]
                .map(cell => quote(String(cell)))
                .join(',')
            ]
          })
        )
      )
    )
  )
  return `${[head, ...rows].join('\n')}\n`
}
