/**
 * Every number that a stranger meets, with its reason. Past a limit: refused, counted, logged; never buffered.
 */
const KiB = 1024
const MiB = 1024 * KiB

export const limits = {
  /** A peer in a roster; a federation of more splits into children, which is also faster. */
  membersMax: 1000,
  /** Voters and delegates: each signs every entry, so certificates grow with them. Nine survive four losses. */
  votersMax: 9,
  /** Levels of federations above an organization. Each costs its organizations one candidate a round. */
  depthMax: 16,
  /** Residuals that an organization takes a round: each costs it a model's transfer and a look at its kept-back text. */
  residualsPerNodeMax: 8,
  /** Fingerprints known in one federation, of all organizations below it: 16 KiB each, and their charters. */
  fingerprintsMax: 2000,
  /** Rank of adapters: beyond it they are no smaller than what they adapt. */
  adapterRankMax: 4096,
  /** Groups of key layers: blocks and the embedding. */
  groupsMax: 1025,
  /** Gossip drops larger messages at 4 MiB and is quick far below: metadata only. */
  gossipBytesMax: 64 * KiB,
  /** A member says about one message a second; an aggregator that is new repeats what it knows. */
  gossipPerSecond: 20,
  gossipBurst: 100,
  /** Messages of one sender that may overtake each other: two bursts. What is older was heard, or is said again. */
  gossipWindow: 256,
  /** Sketches travel inside a gossiped update: 48 groups of 1 KiB, and room for the rest. */
  sketchBytesMax: 56 * KiB,
  /** A round of 1,000 members with their attention; proofs of joining children. */
  entryBytesMax: 1 * MiB,
  /** Nine signatures of 64 bytes with their voters. */
  certificateBytesMax: 4 * KiB,
  /** A child's charter and its `members` entries with certificates, or those since it showed some before: some 200 at once. */
  proofBytesMax: 256 * KiB,
  /** A signed leave record, or two signatures and the links that they are on. */
  evidenceBytesMax: 1 * KiB,
  charterBytesMax: 64 * KiB,
  /** A proposal carries an entry. */
  consensusBytesMax: 1 * MiB + 64 * KiB,
  /** An answer of certified entries: several, or one of the largest. */
  fetchAnswerBytesMax: 4 * MiB,
  /** Of several in one answer: on a line of 1 Mbit/s it comes before the asker gives it up. */
  fetchPartBytesMax: 512 * KiB,
  fetchQuestionBytesMax: 512 * KiB,
  /** Entries in one answer; the asker asks again from where it ended. */
  fetchEntriesMax: 256,
  /** Signed updates that a node has at hand: two rounds' of the largest federation. */
  updatesKeptMax: 2000,
  /** Signed updates in one answer; the asker asks again for the rest. */
  fetchUpdatesMax: 50,
  /** Messages waiting for one peer; past it the oldest is dropped, for consensus says everything again. */
  consensusQueueMax: 256,
  streamsPerPeerMax: 8,
  /** On its way on one stream, at most: keeps small messages quick while blobs flow (2 ms against 37 ms by yamux's default). */
  streamWindowBytes: 1 * MiB,
  /** The same for a stream of chunks: two, so that its sender need not stand still while the receiver hashes one. */
  blobWindowBytes: 2 * MiB,
  /** The same between neighbours, where it is gone in milliseconds: more than passes while either process waits for a core. */
  blobNearWindowBytes: 8 * MiB,
  /** A chunk has its own hash, and is asked for whole. */
  blobChunkBytes: 1 * MiB,
  /** A model of 4 billion floats. */
  blobBytesMax: 16 * 1024 * MiB,
  blobChunksMax: 16 * 1024,
  blobIndexBytesMax: 1 * MiB,
  /** The longest answer: a chunk, or an index. */
  blobAnswerBytesMax: 1 * MiB,
  /** A question with the bitmap of what is lacking. */
  blobQuestionBytesMax: 4 * KiB,
  blobHoldingBytesMax: 64 * KiB,
  /** Outstanding per holder: 16 × 1 MiB fill a path of 100 ms and 160 MB/s. A holder that dies loses them all. */
  blobChunksPerHolderMax: 16,
  /** Outstanding of one blob, from all its holders: what a pull holds in memory at most. */
  blobChunksOutstandingMax: 64,
  /** Streams to one holder for chunks; a stream carries 1 MiB a round trip (yamux's window), so seven fill 1 Gbit/s at 50 ms, ten with room. */
  blobStreamsPerPullMax: 10,
  /** From one peer: four pulls at once, each with its chunks and its questions. */
  blobStreamsPerPeerMax: 44,
  /** Holders asked at once; more bring no more, and each costs a bitmap a second. */
  blobHoldersMax: 12,
  /** Others named in one answer. */
  blobOthersMax: 16,
  /** A blob of fewer chunks goes straight from who holds it: telling each other would take longer. */
  blobSharedChunksMin: 8,
  /** A holder with nothing new to say lets the asker wait this long. */
  blobHaveWaitMs: 1_000,
  addressesMax: 16,
  /** Of a peer, as it is told to others: a name and a port, or two; sixteen peers with sixteen of them fit into an answer. */
  addressCharactersMax: 200,
  /** The largest in use have a quarter million tokens and 33 MiB. It is read whole. */
  tokenizerBytesMax: 64 * MiB
} as const
