/**
 * How many connections a host takes. Each is an open file, and a node that may open no more cannot write what it certifies: it ends. Where the
 * system allows few (a service with LimitNOFILE=256), whoever opens connections and says nothing would end it.
 */

/** Enough for members of several federations; and many of them may begin at once. */
const most = { connections: 1000, pending: 100 }
/** What else a node holds open: libraries, threads, its log and models, and those that it writes (some 45 as it runs). */
const filesBesides = 80
const fewest = { connections: 8, pending: 4 }

export interface ConnectionLimits {
  connections: number
  /** Whose handshake is not over. */
  pending: number
}

/** @param filesMax - that this process may have open. */
export function connectionLimits(filesMax = openFilesMax()): ConnectionLimits {
  const free = filesMax - filesBesides
  const pending = Math.max(fewest.pending, Math.min(most.pending, Math.floor(free / 4)))
  return { pending, connections: Math.max(fewest.connections, Math.min(most.connections, free - pending)) }
}

function openFilesMax(): number {
  // Who is connected with whom takes its time to be told, and is not asked.
  Object.assign(process.report, { excludeNetwork: true })
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft: number | 'unlimited' } } }
  const soft = userLimits?.open_files?.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}
