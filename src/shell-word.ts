/** A word of a command that people copy from a message, as a shell takes it for one. */
export const shellWord = (text: string): string => (/^[\w.,:/@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`)
