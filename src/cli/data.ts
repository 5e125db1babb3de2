/** `worldlm data inspect`: what the organizations of a tree would train on. */
import { inspectTexts, type Inspected, overlapWarnings } from '../data/inspect.ts'
import { type LoadedText, loadText, readTree } from '../data/text-tree.ts'
import type { Output } from './output.ts'
import { table } from './table.ts'

export async function inspectData(folder: string, { samples }: { samples: boolean }, output: Output): Promise<void> {
  const texts = new Map<string, LoadedText>()
  // As needy as the smallest model, so that a short text is shown, not refused.
  for (const text of readTree(folder)) texts.set(text.path, await loadText(text, { context: 1, keptBackBytes: 0 }))
  const inspected = inspectTexts(texts)
  const warnings = overlapWarnings(inspected)
  const head = ['organization', 'training', 'validation', 'lines', 'longest line', 'overlap', 'with others', 'scripts']
  output.line(table(head, inspected.map(row)))
  if (samples)
    for (const { path, samples: some } of inspected)
      output.line(`\n${path}\n${some.map(sample => `  ${JSON.stringify(sample).slice(1, -1)}`).join('\n')}`)
  if (warnings.length > 0) output.line(`\n${warnings.map(warning => `! ${warning}`).join('\n')}`)
  output.line(
    `\nOverlap: the share of the validation text that stands word for word (64 bytes at a time) in the training text, one’s own or another’s.`
  )
  output.document({ organizations: inspected, warnings })
}

const size = (bytes: number): string =>
  bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : bytes >= 1e3 ? `${(bytes / 1e3).toFixed(1)} kB` : `${bytes} B`
const percent = (share: number): string => `${(share * 100).toFixed(1)} %`

const row = ({
  path,
  trainBytes,
  validBytes,
  lines,
  longestLine,
  overlap,
  overlapWithOthers,
  scripts
}: Inspected): string[] => [
  path,
  size(trainBytes),
  size(validBytes),
  String(lines),
  size(longestLine),
  percent(overlap),
  percent(overlapWithOthers),
  scripts
    .slice(0, 3)
    .map(({ script, share }) => `${script} ${percent(share)}`)
    .join(', ')
]
