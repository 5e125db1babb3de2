/**
 * Whether what others made is a model at all. A member, or an aggregator, may send numbers that are none, or so large that nothing can be computed
 * with them; whatever the charter says of such a model, training from it would end this node, and again after each restart.
 * Is not: a judge of how good it is (aggregate/down.ts), nor of a member's update (round-effects.ts).
 */
import type { Judgement } from '../aggregate/down.ts'
import type { Layout } from '../model/layout.ts'
import type { Services } from './services.ts'

/** Of what is no model. */
export const likeNothing: Judgement = { nllPerByte: Number.POSITIVE_INFINITY, parts: [] }

export class Soundness {
  readonly #services: Pick<Services, 'folder' | 'mixer' | 'events'>
  readonly #layout: Layout

  constructor(services: Pick<Services, 'folder' | 'mixer' | 'events'>, layout: Layout) {
    this.#services = services
    this.#layout = layout
  }

  async isModel(round: number, path: string): Promise<boolean> {
    const { fault } = await this.#services.mixer.inspect(this.#layout, path, null, null)
    if (fault !== null) this.#warn(round, `a model that was certified is not taken: ${fault}`)
    return fault === null
  }

  /**
   * @param judge - where it is not known that it gives numbers; else null.
   * @returns `model`, or the organization's own in its place.
   */
  async orOwn(
    round: number,
    model: string,
    own: string,
    judge: ((path: string) => Promise<Judgement>) | null
  ): Promise<string> {
    const { folder, mixer } = this.#services
    if ((await this.isModel(round, model)) && (judge === null || Number.isFinite((await judge(model)).nllPerByte))) return model
    this.#warn(round, 'what was certified gives no numbers; training goes on from the organization’s own model')
    await mixer.combine(this.#layout, own, own, folder.model('mixed'))
    return folder.model('mixed')
  }

  #warn(round: number, what: string): void {
    this.#services.events.emit({ type: 'warning', code: 'MODEL_SPOILED', message: `round ${round}: ${what}` })
  }
}
