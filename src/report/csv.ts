/** `curves.csv`: a line a value, long format, for any program that draws. */
import type { TestnetReport } from './schema.ts'

export function curvesCsv(report: TestnetReport): string {
  const stepTokens = Number(report.model.batch ?? 0) * Number(report.model.context ?? 0) * Number(report.model.steps ?? 0)
  const rows = [...report.evaluations, ...report.alone.map(one => ({ ...one, model: 'alone' }))]
    .sort((left, right) => compare(left.path, right.path) || compare(left.model, right.model) || left.round - right.round)
    .map(({ path, round, model, perplexity, bitsPerByte }) =>
      [quote(path), round, model, perplexity, bitsPerByte, round * stepTokens].join(',')
    )
  return `${['path,round,model,perplexity,bitsPerByte,tokens', ...rows].join('\n')}\n`
}

const compare = (left: string, right: string): number => (left < right ? -1 : left > right ? 1 : 0)
export const quote = (text: string): string => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)
