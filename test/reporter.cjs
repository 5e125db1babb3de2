/** Mocha's spec reporter, and one closing line that a program can read: `N passed, N failed, N skipped`. */
const { reporters } = require('mocha')

module.exports = class extends reporters.Spec {
  epilogue() {
    super.epilogue()
    const { passes, failures, pending } = this.stats
    process.stdout.write(`${passes} passed, ${failures} failed, ${pending} skipped\n`)
  }
}
