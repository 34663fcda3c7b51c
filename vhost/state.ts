/**
 * What a session knows: everything that the messages of one connection change.
 *
 * @module
 */

import type { Reactor } from "../sys/reactor.ts";
import { BackendChannel } from "./backend_channel.ts";
import {
  MAX_QUEUES,
  ProtocolFeature,
  SERVED_NET_FEATURES,
  SERVED_PROTOCOL_FEATURES,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VIRTIO_ID_NET,
} from "./constants.ts";
import type { DataPlane } from "./data_plane.ts";
import type { InflightArea } from "./inflight_area.ts";
import { MemoryTable } from "./memory_table.ts";
import { Vring } from "./vring.ts";

/** Bit 30 of the virtio features, which is the transport's, as a mask. */
export const PROTOCOL_FEATURES_BIT: bigint = 1n <<
  BigInt(VHOST_USER_F_PROTOCOL_FEATURES);

/** Where a session writes its log lines. */
export interface SessionLog {
  /** What only a developer wants to know. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What happened. */
  info(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What went wrong and was dealt with. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What went wrong and ended something. */
  error(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The state of one connection. */
export class SessionState {
  /** Serves the rings. */
  readonly plane: DataPlane;
  /** Where log lines go. */
  readonly log: SessionLog;
  /** All queues of the device. */
  readonly rings: readonly Vring[];
  /** Messages to the front-end. */
  readonly channel: BackendChannel;
  /** The guest's memory. */
  readonly memory = new MemoryTable();
  /** Where requests in flight are tracked; `null` before `SET_INFLIGHT_FD`. */
  inflight: InflightArea | null = null;
  /** Virtio features acknowledged, bit 30 included. */
  features = 0n;
  /** What the data plane was last told of them; `null`: nothing yet. */
  announced: bigint | null = null;
  /** Protocol features acknowledged. */
  protocolFeatures = 0n;
  /** `SET_OWNER` came. */
  owned = false;
  /** Virtio device status as the front-end reports it; informative only. */
  deviceStatus = 0;

  /** The state of a connection on which nothing was said yet. */
  constructor(plane: DataPlane, log: SessionLog, reactor: Reactor) {
    if (plane.queueCount > MAX_QUEUES) {
      throw new RangeError(
        `Cannot serve ${plane.queueCount} queues: ` +
          `vhost-user can name at most ${MAX_QUEUES}`,
      );
    }
    this.plane = plane;
    this.log = log;
    this.rings = Array.from(
      { length: plane.queueCount },
      (_, index) => new Vring(index),
    );
    this.channel = new BackendChannel(
      reactor,
      () =>
        this.negotiated(ProtocolFeature.CONFIG) &&
        this.rings.some((ring) => ring.running),
    );
  }

  /** Virtio features offered, bit 30 included. */
  get offered(): bigint {
    return this.plane.features | PROTOCOL_FEATURES_BIT;
  }

  /** Protocol features offered: those of the kind of device too. */
  get offeredProtocolFeatures(): bigint {
    return this.plane.deviceId === VIRTIO_ID_NET
      ? SERVED_PROTOCOL_FEATURES | SERVED_NET_FEATURES
      : SERVED_PROTOCOL_FEATURES;
  }

  /** Whether a protocol feature is offered; none is needed for `undefined`. */
  offers(bit: number | undefined): boolean {
    return bit === undefined ||
      (this.offeredProtocolFeatures >> BigInt(bit) & 1n) === 1n;
  }

  /** Whether a protocol feature was acknowledged. */
  negotiated(bit: number): boolean {
    return (this.protocolFeatures >> BigInt(bit) & 1n) === 1n;
  }

  /** Whether the front-end acknowledged bit 30 and will enable rings itself. */
  get enablesRings(): boolean {
    return (this.features & PROTOCOL_FEATURES_BIT) !== 0n;
  }
}
