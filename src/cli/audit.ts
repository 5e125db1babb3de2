/** `worldlm audit verify`: certified logs checked offline, each alone and against each other. */
import { verifyPaths } from '../node/audit.ts'
import { exitCodes, type Output } from './output.ts'
import { table } from './table.ts'

export async function verifyCommand(paths: string[], output: Output): Promise<void> {
  const report = await verifyPaths(paths)
  output.line(
    table(
      ['node', 'federation', 'entries', 'rounds', 'members', 'updates checked', 'verdict'],
      report.logs.map(log => [
        log.node,
        log.federation,
        String(log.entries),
        String(log.rounds),
        String(log.members),
        `${log.updatesChecked}/${log.updatesCounted}`,
        log.fault === null ? 'certified' : 'BROKEN'
      ])
    )
  )
  for (const { node, federation, index, code, detail } of report.faults)
    output.line(`${node}: ${federation} entry ${index}: ${code}: ${detail}`)
  for (const { node, bytes } of report.torn)
    output.line(
      `${node}: the last ${bytes} bytes are no whole block: cut off by a crash, or changed; what is before them was checked`
    )
  for (const node of report.empty)
    output.line(`${node}: there is no certified log in its folder: it was never started, or what it held was taken away`)
  output.line(
    report.ok
      ? `${report.logs.length} logs, every certificate holds from its genesis charter on`
      : `${report.faults.length} faults`
  )
  output.document(report)
  if (!report.ok) process.exitCode = exitCodes.failed
}
