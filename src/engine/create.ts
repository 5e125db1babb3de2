/** Engines by name. An engine's runtime is loaded when it is asked for, not before. */
import './no-telemetry.ts'
import type { Engine, EngineOptions } from './engine.ts'

export async function createEngine(name: Engine['name'], options: EngineOptions): Promise<Engine> {
  switch (name) {
    case 'onnx':
      if (options.device !== undefined && options.device !== 'cpu')
        return (await import('./onnx/device-engine.ts')).DeviceEngine.create(options, options.device)
      return (await import('./onnx/onnx-engine.ts')).OnnxEngine.create(options)
    case 'tfjs':
      return (await import('./tfjs/tfjs-engine.ts')).TfjsEngine.create(options)
    case 'external':
      return (await import('./external/external-engine.ts')).ExternalEngine.create(options)
    case 'reference':
      return new (await import('./reference.ts')).ReferenceEngine(options)
  }
}
