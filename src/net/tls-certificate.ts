/**
 * Certificates of libp2p's TLS: made, and checked (https://github.com/libp2p/specs/blob/master/tls/tls.md).
 *
 *   Certificate  ::= SEQUENCE { tbs, algorithm, signature BIT STRING }               RFC 5280 §4.1, in DER
 *   tbs          ::= SEQUENCE { [0] version, serial, algorithm, issuer, validity, subject, key, [3] extensions }
 *   extension of 1.3.6.1.4.1.53594.1.1, critical
 *                ::= SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }
 *   publicKey    the peer's key as libp2p's protobuf
 *   signature    by that key, over "libp2p-tls-handshake:" and the certificate's own key
 *
 * Why not @libp2p/tls's functions: they come with 240 modules, a fifth of what a node loads to start, and take 1 to 5 ms a handshake. What
 * concerns X.509 itself (its form, its dates, its signature) is checked by Node's OpenSSL; only the extension is read here.
 */
import { generateKeyPairSync, randomBytes, sign, type X509Certificate } from 'node:crypto'
import { publicKeyFromProtobuf, publicKeyToProtobuf } from '@libp2p/crypto/keys'
import {
  InvalidCryptoExchangeError,
  type PeerId,
  type PrivateKey,
  type PublicKey,
  UnexpectedPeerError
} from '@libp2p/interface'
import { peerIdFromPublicKey } from '@libp2p/peer-id'

const tags = {
  boolean: 0x01,
  integer: 0x02,
  bits: 0x03,
  octets: 0x04,
  oid: 0x06,
  utcTime: 0x17,
  time: 0x18,
  sequence: 0x30,
  version: 0xa0,
  extensions: 0xa3
}
/** 1.3.6.1.4.1.53594.1.1 */
const libp2pExtension = Buffer.from('2b0601040183a25a0101', 'hex')
/** 1.2.840.10045.4.3.2 */
const ecdsaWithSha256 = Buffer.from('2a8648ce3d040302', 'hex')
const handshakePrefix = Buffer.from('libp2p-tls-handshake:')
/** As go-libp2p has them: clocks differ, and a node may run for long. */
const validBeforeMs = 3_600_000
const validAfterMs = 100 * 365 * 86_400_000

/** A new key, and a certificate of it that says whose it is: both as PEM. */
export async function makeCertificate(privateKey: PrivateKey): Promise<{ cert: string; key: string }> {
  const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const ownKey = pair.publicKey.export({ type: 'spki', format: 'der' })
  const peerKey = publicKeyToProtobuf(privateKey.publicKey)
  const bound = await privateKey.sign(Buffer.concat([handshakePrefix, ownKey]))
  const extension = der(
    tags.sequence,
    der(tags.oid, libp2pExtension),
    der(tags.boolean, Buffer.of(0xff)),
    der(tags.octets, der(tags.sequence, der(tags.octets, peerKey), der(tags.octets, bound)))
  )
  const serial = randomBytes(8)
  // Positive, and no zero before it: DER's shortest form.
  serial[0] = (serial[0]! & 0x3f) | 0x40
  const algorithm = der(tags.sequence, der(tags.oid, ecdsaWithSha256))
  const nobody = der(tags.sequence)
  const now = Date.now()
  const tbs = der(
    tags.sequence,
    der(tags.version, der(tags.integer, Buffer.of(2))),
    der(tags.integer, serial),
    algorithm,
    nobody,
    der(tags.sequence, time(now - validBeforeMs), time(now + validAfterMs)),
    nobody,
    ownKey,
    der(tags.extensions, der(tags.sequence, extension))
  )
  const signature = sign('sha256', tbs, pair.privateKey)
  const whole = der(tags.sequence, tbs, algorithm, der(tags.bits, Buffer.of(0), signature))
  return { cert: pem(whole), key: pair.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() }
}

/**
 * Whose certificate it is. The handshake has shown that the other side holds the certificate's key; this shows that the peer's key signed for it.
 * @throws {InvalidCryptoExchangeError} when the certificate is not what the specification wants. @throws {UnexpectedPeerError}
 */
export async function verifyCertificate(certificate: X509Certificate | undefined, expected?: PeerId): Promise<PeerId> {
  if (certificate === undefined) throw refused('it shows none')
  const now = Date.now()
  if (!(certificate.validFromDate.getTime() <= now && now <= certificate.validToDate.getTime()))
    throw refused('it is not valid now')
  if (!isOwnSignature(certificate)) throw refused('it is not signed by its own key')
  const { ownKey, peerKey, signature } = partsOf(certificate.raw)
  const { key, peer } = readKey(peerKey)
  if (!(await key.verify(Buffer.concat([handshakePrefix, ownKey]), signature)))
    throw refused('the peer did not sign for its key')
  if (expected !== undefined && !expected.equals(peer)) throw new UnexpectedPeerError(`it is ${peer}, not ${expected}`)
  return peer
}

const refused = (why: string): Error => new InvalidCryptoExchangeError(`the certificate of the other side is refused: ${why}`)

function isOwnSignature(certificate: X509Certificate): boolean {
  try {
    return certificate.verify(certificate.publicKey)
  } catch {
    return false
  }
}

function readKey(bytes: Uint8Array): { key: PublicKey; peer: PeerId } {
  try {
    const key = publicKeyFromProtobuf(bytes)
    return { key, peer: peerIdFromPublicKey(key) }
  } catch {
    throw refused('the peer’s key cannot be read')
  }
}

/** The certificate's key, and what its extension says. */
function partsOf(raw: Uint8Array): { ownKey: Uint8Array; peerKey: Uint8Array; signature: Uint8Array } {
  const [tbs] = children(only(raw, tags.sequence))
  const fields = children(wanted(tbs, tags.sequence))
  const ownKey = fields[6]
  const extensions = fields.find(({ tag }) => tag === tags.extensions)
  if (ownKey?.tag !== tags.sequence || extensions === undefined) throw refused('it has no extension')
  let found: Uint8Array | null = null
  for (const extension of children(only(extensions.value, tags.sequence))) {
    const [name, ...rest] = children(wanted(extension, tags.sequence))
    const value = wanted(rest.at(-1), tags.octets)
    if (Buffer.compare(wanted(name, tags.oid), libp2pExtension) === 0) {
      if (found !== null) throw refused('it names two peers')
      found = value
    } else if (rest.length > 1) throw refused('it has a critical extension that is not known here')
  }
  if (found === null) throw refused('it names no peer')
  const [peerKey, signature, ...more] = children(only(found, tags.sequence))
  if (more.length > 0) throw refused('its extension is too long')
  return { ownKey: ownKey.whole, peerKey: wanted(peerKey, tags.octets), signature: wanted(signature, tags.octets) }
}

// ── DER ──

interface Element {
  tag: number
  value: Uint8Array
  /** With its tag and length. */
  whole: Uint8Array
}

function der(tag: number, ...parts: Uint8Array[]): Buffer {
  const length = parts.reduce((sum, part) => sum + part.length, 0)
  const head = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from(head), ...parts])
}

/** The elements that stand in `bytes` one after another. @throws unless they fill it. */
function children(bytes: Uint8Array): Element[] {
  const elements: Element[] = []
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at + 1] ?? 0
    const lengthBytes = first < 0x80 ? 0 : first & 0x7f
    if (lengthBytes > 2 || first === 0x80) throw refused('a length in it is out of range')
    let length = lengthBytes === 0 ? first : 0
    for (let place = 0; place < lengthBytes; place++) length = length * 256 + (bytes[at + 2 + place] ?? 0)
    const begin = at + 2 + lengthBytes
    const end = begin + length
    if (end > bytes.length) throw refused('it is cut off')
    elements.push({ tag: bytes[at]!, value: bytes.subarray(begin, end), whole: bytes.subarray(at, end) })
    at = end
  }
  return elements
}

function wanted(element: Element | undefined, tag: number): Uint8Array {
  if (element?.tag !== tag) throw refused('its parts are not where they belong')
  return element.value
}

/** What `bytes` holds, which must be one element. */
function only(bytes: Uint8Array, tag: number): Uint8Array {
  const [element, ...more] = children(bytes)
  if (more.length > 0) throw refused('it has more parts than it should')
  return wanted(element, tag)
}

/** RFC 5280 §4.1.2.5: two digits of the year before 2050, four from then on. */
function time(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '')
  return digits < '2050' ? der(tags.utcTime, Buffer.from(digits.slice(2))) : der(tags.time, Buffer.from(digits))
}

const pem = (bytes: Buffer): string =>
  `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replace(/.{64}(?=.)/g, '$&\n')}\n-----END CERTIFICATE-----\n`
