/** The page around a report: one file, nothing from elsewhere, readable in dark and light. */
import { escapeHtml } from './plots.ts'

const style = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2430;--soft:#5c6778;--line:#d8dee8;--card:#f6f8fb;--c1:#1768ac;--c2:#2a9d5c;--c3:#c2571a;--c4:#7a4fb5;--c5:#b0335f;--c6:#8a7a10;--c7:#4a6572;--c8:#0f8a8a;--c9:#8d4b2c;--c10:#3f51b5;--c11:#d12a2a;--c12:#557a2b}
@media(prefers-color-scheme:dark){:root{--bg:#10151c;--fg:#e4e9f0;--soft:#9aa6b8;--line:#2b3543;--card:#18202a;--c1:#64b1f0;--c2:#63cf91;--c3:#f0935a;--c4:#b994f0;--c5:#ef7fa5;--c6:#d9c75a;--c7:#9fb6c3;--c8:#5fd0d0;--c9:#d9a384;--c10:#9aa7ff;--c11:#ff8080;--c12:#a8cf76}}
body{margin:0 auto;max-width:1080px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 10px}p{max-width:76ch}.soft{color:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:right}th:first-child,td:first-child,td.text,th.text{text-align:left}
.scroll{overflow-x:auto}.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(310px,1fr));gap:14px}
figure{margin:0;padding:10px 12px;background:var(--card);border:1px solid var(--line);border-radius:10px;overflow-x:auto}figure.wide{grid-column:1/-1;margin:10px 0}figcaption{font-weight:600;margin-bottom:4px}
svg{width:100%;height:auto;font:11px system-ui,sans-serif}svg text{fill:var(--soft)}svg .name{fill:var(--fg);font-weight:600;font-size:12px}
.grid{stroke:var(--line);fill:none}polyline{fill:none;stroke-width:2}.dashed{stroke-dasharray:5 4}.heat{fill:var(--c1)}
.box{fill:var(--bg);stroke:var(--c1)}.organization .box{stroke:var(--c2)}.lost .box{stroke:var(--c5);stroke-dasharray:4 3}
${[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12].map(n => `polyline.c${n}{stroke:var(--c${n})}circle.c${n},.f${n}{fill:var(--c${n})}.k${n}{color:var(--c${n})}`).join('')}
.key span{margin-right:14px;font-weight:600}.good{color:var(--c2)}.bad{color:var(--c5)}code{font-size:13px}`

/** @param sections - HTML, already escaped. */
export const page = (title: string, sections: string[]): string =>
  `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>${escapeHtml(title)}</title><style>${style}</style></head><body>${sections.join('\n')}</body></html>\n`
