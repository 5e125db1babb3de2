/** Receipts of one federation's updates, until a certified round counts the update, or names its member (I4). */
import type { Update } from '../federation/entry.ts'
import type { Link, MemberId, PeerName } from '../ids.ts'

interface Receipt {
  update: Update
  /** Who has it. */
  peer: PeerName
  /** By that round it is settled. */
  due: number
  atMs: number
  /** Its holder's disk is as it was before: it may have made another update since. */
  forgotten: boolean
}

export class Receipts {
  readonly #receipts = new Map<Link, Receipt>()

  /** One that is given again is as old as it was. */
  add(link: Link, receipt: Omit<Receipt, 'forgotten'>): void {
    const { atMs } = this.#receipts.get(link) ?? receipt
    this.#receipts.set(link, { ...receipt, atMs, forgotten: false })
  }

  dropOf(member: MemberId): void {
    for (const [link, { update }] of this.#receipts) if (update.member === member) this.#receipts.delete(link)
  }

  forget(peer: PeerName, sinceMs: number): void {
    for (const receipt of this.#receipts.values())
      if (receipt.peer === peer && receipt.atMs >= sinceMs) receipt.forgotten = true
  }

  /** Drops those that are settled, or due in `round`. @returns of the due ones those that are not settled. */
  take(round: number, isSettled: (link: Link, receipt: Receipt) => boolean): Receipt[] {
    const unsettled: Receipt[] = []
    for (const [link, receipt] of this.#receipts) {
      const settled = isSettled(link, receipt)
      if (!settled && receipt.due > round) continue
      if (!settled) unsettled.push(receipt)
      this.#receipts.delete(link)
    }
    return unsettled
  }
}
