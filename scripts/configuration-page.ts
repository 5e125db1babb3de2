/** docs/configuration.md, made from the schema in src/config.ts: `npm run docs` writes it, a test holds the page to it. */
import { writeFileSync } from 'node:fs'
import { listOptions } from '../src/config.ts'

export function configurationPage(): string {
  const rows = listOptions().map(({ key, description, default: value }) => {
    const variable = `WORLDLM_${key
      .replaceAll('.', '_')
      .replace(/([a-z])([A-Z])/g, '$1_$2')
      .toUpperCase()}`
    const shown = value === undefined ? '' : `\`${JSON.stringify(value)}\``
    return `| \`${key}\` | ${shown} | \`${variable}\` | ${description.replaceAll('|', '\\|')} |`
  })
  return `# Configuration

\`worldlm.yaml\` in the node's folder (or \`--config\`), then \`WORLDLM_*\` variables, then \`--set key=value\`. An unknown key is an error that names the
nearest known one. What a variable or \`--set\` gives is JSON where it is JSON, so a list is \`WORLDLM_LISTEN='["/ip4/192.0.2.7/tcp/4890"]'\`; else text. \`worldlm node init\` writes the file with every option commented. A federation's own settings stand in its charter: [governance.md](governance.md).

| option | default | variable | what |
| --- | --- | --- | --- |
${rows.join('\n')}
`
}

if (import.meta.main) writeFileSync(new URL('../docs/configuration.md', import.meta.url), configurationPage())
