/**
 * vhostd: virtio devices in TypeScript, served over vhost-user.
 *
 * A device is an object that implements {@linkcode VirtioDevice}; a module whose
 * default export makes one ({@linkcode CreateDevice}) is served by
 * {@linkcode serve}.
 *
 * @module
 */

export type {
  CreateDevice,
  DeviceContext,
  LogLevel,
  VirtioDevice,
} from "./virtqueue/device.ts";
export type { VirtQueue } from "./virtqueue/queue.ts";
export type { DescriptorChain } from "./virtqueue/chain.ts";
export type {
  GuestMemory,
  MemoryRegion,
  RegionBacking,
  RegionInfo,
} from "./virtqueue/memory.ts";
export { DeviceError } from "./host/worker/channel.ts";
export { SystemError } from "./sys/errno.ts";
export { serve, type ServeOptions, type Server } from "./host/serve.ts";
