/**
 * Makes wire.json: bytes and links of one record of each kind. Anybody who writes a second implementation, or changes this one, compares.
 * Run it only when the format is meant to change, and say so in the change log: node test/vectors/make-wire.ts
 */
import { writeFileSync } from 'node:fs'
import { wireVectors } from '../wire/vectors.ts'

writeFileSync(new URL('./wire.json', import.meta.url), `${JSON.stringify(wireVectors(), null, 2)}\n`)
