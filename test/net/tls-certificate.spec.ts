/** Certificates of libp2p's TLS, beside those of @libp2p/tls: each takes the other's, and nothing that was changed. */
import assert from 'node:assert/strict'
import { createPrivateKey, sign, X509Certificate } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { generateCertificate, verifyPeerCertificate } from '@libp2p/tls/utils'
import { makeCertificate, verifyCertificate } from '../../src/net/tls-certificate.ts'

const makers = { ours: makeCertificate, 'that of @libp2p/tls': generateCertificate }

describe('a certificate of libp2p’s TLS', () => {
  for (const [name, make] of Object.entries(makers))
    for (const type of ['Ed25519', 'secp256k1'] as const)
      it(`names its peer, for both implementations: ${name}, a key of ${type}`, async () => {
        const key = (await generateKeyPair(type as 'Ed25519')) as PrivateKey
        const peer = peerIdFromPrivateKey(key as never).toString()
        const certificate = new X509Certificate((await make(key)).cert)
        assert.equal((await verifyCertificate(certificate)).toString(), peer)
        assert.equal((await verifyPeerCertificate(certificate.raw)).toString(), peer)
      })

  it('is refused to who expects another, and where there is none', async () => {
    const [one, other] = [await generateKeyPair('Ed25519'), await generateKeyPair('Ed25519')]
    const certificate = new X509Certificate((await makeCertificate(one)).cert)
    await verifyCertificate(certificate, peerIdFromPrivateKey(one))
    await assert.rejects(verifyCertificate(certificate, peerIdFromPrivateKey(other)), { name: 'UnexpectedPeerError' })
    await assert.rejects(verifyCertificate(undefined), /it shows none/)
  })

  it('is refused with any of its bits turned', async () => {
    const { raw } = new X509Certificate((await makeCertificate(await generateKeyPair('Ed25519'))).cert)
    for (let bit = 0; bit < raw.length * 8; bit += 3) {
      const turned = Buffer.from(raw)
      turned[bit >> 3] = turned[bit >> 3]! ^ (1 << (bit & 7))
      const certificate = parsed(turned)
      if (certificate !== null)
        await assert.rejects(verifyCertificate(certificate), { name: 'InvalidCryptoExchangeError' }, `bit ${bit}`)
    }
  })

  // Signed anew by the certificate's own key: only the extension can show that something is wrong.
  for (const { name, change, says } of [
    { name: 'is of another peer', change: swapPeer, says: /did not sign for its key/ },
    {
      name: 'has no extension of libp2p',
      change: (tbs: Buffer) => replaced(tbs, '83a25a0101', '83a25a0102'),
      says: /not known here/
    },
    {
      name: 'names a key of a kind that there is not',
      change: (tbs: Buffer) => replaced(tbs, '08011220', '08091220'),
      says: /cannot be read/
    },
    {
      name: 'has run out',
      change: (tbs: Buffer) => replaced(tbs, hex('21'), hex('19'), tbs.indexOf(hex('Z'), 0, 'hex') + 3),
      says: /not valid now/
    }
  ])
    it(`is refused when it ${name}`, async () => {
      const made = await makeCertificate(await generateKeyPair('Ed25519'))
      const changed = parsed(signedAnew(new X509Certificate(made.cert).raw, change, made.key))
      assert.ok(changed !== null)
      await assert.rejects(verifyCertificate(changed), says)
    })
})

const hex = (text: string) => Buffer.from(text).toString('hex')

function parsed(raw: Buffer): X509Certificate | null {
  try {
    return new X509Certificate(raw)
  } catch {
    return null
  }
}

function replaced(bytes: Buffer, from: string, to: string, start = 0): Buffer {
  const at = bytes.indexOf(Buffer.from(from, 'hex'), start)
  assert.ok(at >= 0, `no ${from} in it`)
  const copy = Buffer.from(bytes)
  copy.write(to, at, 'hex')
  return copy
}

/** The key that stands behind protobuf's head of an Ed25519 key. */
function swapPeer(tbs: Buffer): Buffer {
  const at = tbs.indexOf(Buffer.from('08011220', 'hex')) + 4
  const copy = Buffer.from(tbs)
  copy[at + 5] = copy[at + 5]! ^ 1
  return copy
}

/** With its tbs changed, all lengths as they were, and the signature of its own key over that. */
function signedAnew(raw: Buffer, change: (tbs: Buffer) => Buffer, key: string): Buffer {
  const tbsAt = 4
  const tbsLength = 4 + raw.readUInt16BE(tbsAt + 2)
  const tbs = change(raw.subarray(tbsAt, tbsAt + tbsLength))
  const algorithm = Buffer.from('300a06082a8648ce3d040302', 'hex')
  const signature = sign('sha256', tbs, createPrivateKey(key))
  const bits = Buffer.concat([Buffer.of(0x03, signature.length + 1, 0), signature])
  const inner = Buffer.concat([tbs, algorithm, bits])
  return Buffer.concat([Buffer.of(0x30, 0x82, inner.length >> 8, inner.length & 0xff), inner])
}
