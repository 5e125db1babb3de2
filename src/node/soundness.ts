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

  /**
   * Residuals where no text judges them (`chain`): their K drawn to what all began with, where it lies farther from there than all of `others`
   * do. A mean of what is no farther is no farther; left as it is, one of a stranger's is the whole of any mean, and through the next update
   * the federation's model.
   */
  async drawn<Residual extends { model: string }>(
    residuals: readonly Residual[],
    others: readonly string[]
  ): Promise<Residual[]> {
    const { folder, mixer } = this.#services
    const initial = folder.model('initial')
    const distanceOf = async (path: string) => (await mixer.inspect(this.#layout, path, null, initial)).keysDistance
    const most = residuals.length === 0 ? 0 : Math.max(...(await Promise.all(others.map(distanceOf))))
    const drawn: Residual[] = []
    for (const [place, residual] of residuals.entries()) {
      const share = most / (await distanceOf(residual.model))
      const output = folder.model(`drawn-${place}`)
      const logits = (weight: number) => this.#layout.groups.map(() => Math.log(weight))
      const candidates = [
        { path: residual.model, logits: logits(share) },
        { path: initial, logits: logits(1 - share) }
      ]
      if (share < 1) await mixer.mix({ layout: this.#layout, backboneFrom: residual.model, candidates, output })
      drawn.push(share < 1 ? { ...residual, model: output } : residual)
    }
    return drawn
  }

  #warn(round: number, what: string): void {
    this.#services.events.emit({ type: 'warning', code: 'MODEL_SPOILED', message: `round ${round}: ${what}` })
  }
}
