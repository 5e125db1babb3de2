/**
 * onnxruntime's packages tell their makers how they are used: they name the machine by a number that they keep in the user's cache folder,
 * collect events in a database there, and send them whenever they reach the makers' server. Nothing leaves a node but what its charters name.
 *
 * Native code reads the process's environment, which only the main thread can set: whatever starts a thread with an engine in it imports this.
 */
process.env.ORT_DISABLE_TELEMETRY = '1'
