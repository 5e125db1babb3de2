/** Python with torch and transformers, for tests that hold us to them: $WORLDLM_TEST_PYTHON, as .ci/run sets it. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

const python = process.env.WORLDLM_TEST_PYTHON ?? ''

/** Why tests with Python are left out here; null where they run. */
export const pythonMissing: string | null =
  python === ''
    ? 'WORLDLM_TEST_PYTHON is not set (.ci/run sets it; test/requirements.txt says what it must have)'
    : existsSync(python)
      ? null
      : `WORLDLM_TEST_PYTHON names ${python}, which is not there`

/** Runs a script with arguments; its last line is JSON. @throws {Error} with what it wrote to stderr. */
export function runPython<Result>(script: URL, args: string[]): Result {
  const { status, stdout, stderr } = spawnSync(python, [script.pathname, ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, OMP_NUM_THREADS: '2', TRANSFORMERS_VERBOSITY: 'error', HF_HUB_OFFLINE: '1' }
  })
  if (status !== 0) throw new Error(`${script.pathname} ended with ${status}:\n${stderr}`)
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Result
}
