/**
 * A vhost-user front-end: what QEMU is to a back-end, for tests and for load.
 *
 * @module
 */

import { EventFd } from "../../sys/eventfd.ts";
import { Reactor } from "../../sys/reactor.ts";
import { UnixSocket } from "../../sys/unix_socket.ts";
import { Connection, type Message } from "../connection.ts";
import {
  BackEndMessage,
  FrontEndMessage,
  ProtocolFeature,
  VHOST_USER_VERSION,
} from "../constants.ts";
import {
  encodeConfig,
  encodeMemoryRegion,
  encodeMemoryTable,
  encodeMessage,
  encodeU64,
  encodeVringAddress,
  encodeVringFd,
  encodeVringState,
} from "../message.ts";
import {
  acceptedFeatures,
  firstPosition,
  type HandshakeOptions,
} from "./handshake.ts";
import { FrontEndError, Requester, u64, within } from "./requester.ts";
import { LOG_ALL_BIT } from "../state.ts";
import { type SharedRegion, USER_OFFSET } from "./shared_region.ts";

export type { HandshakeOptions } from "./handshake.ts";
export { FrontEndError } from "./requester.ts";
export { SharedRegion, USER_OFFSET } from "./shared_region.ts";

/** Where a ring is, in guest addresses; a fake driver is one of these. */
export interface RingLayout {
  /** Number of entries. */
  readonly size: number;
  readonly descriptorTable: number;
  readonly availableRing: number;
  readonly usedRing: number;
}

/** The event descriptors of a ring, the front-end's ends. */
export interface RingEvents {
  readonly kick: EventFd;
  readonly call: EventFd;
  readonly error: EventFd;
}

/** Options of {@linkcode FrontEnd.start}. */
export interface StartOptions {
  /** Position to start from, for each ring. Default: as after a reset. */
  readonly positions?: Readonly<Record<number, number>>;
}

/** The front-end's end of a connection. */
export class FrontEnd extends Requester {
  /** Virtio features that {@linkcode FrontEnd.start} acknowledges. */
  features = 0n;
  /** Queues that the back-end has. */
  queueCount = 1;
  readonly #reactor: Reactor;
  readonly #ownsReactor: boolean;
  readonly #rings = new Map<number, RingEvents>();
  readonly #started = new Set<number>();
  readonly #regions: SharedRegion[] = [];
  #channel: Connection | null = null;

  private constructor(
    socket: UnixSocket,
    reactor: Reactor,
    ownsReactor: boolean,
  ) {
    super(new Connection(socket, reactor));
    this.#reactor = reactor;
    this.#ownsReactor = ownsReactor;
  }

  /**
   * Connects to a back-end.
   *
   * @param target path of its socket, or a connected socket, which is taken over
   * @param reactor watches the sockets; default: one of its own
   */
  static connect(target: string | UnixSocket, reactor?: Reactor): FrontEnd {
    const socket = typeof target === "string"
      ? UnixSocket.connect(target)
      : target;
    return new FrontEnd(
      socket,
      reactor ?? new Reactor(),
      reactor === undefined,
    );
  }

  // Negotiation.

  /** `VHOST_USER_GET_FEATURES`. */
  async getFeatures(): Promise<bigint> {
    return u64(await this.get(FrontEndMessage.GET_FEATURES));
  }

  /** `VHOST_USER_SET_FEATURES`. */
  setFeatures(features: bigint): Promise<void> {
    return this.set(FrontEndMessage.SET_FEATURES, encodeU64(features));
  }

  /** `VHOST_USER_GET_PROTOCOL_FEATURES`. */
  async getProtocolFeatures(): Promise<bigint> {
    return u64(await this.get(FrontEndMessage.GET_PROTOCOL_FEATURES));
  }

  /** `VHOST_USER_SET_PROTOCOL_FEATURES`; never waits for an answer. */
  async setProtocolFeatures(features: bigint): Promise<void> {
    await this.sendRaw(
      encodeMessage(
        FrontEndMessage.SET_PROTOCOL_FEATURES,
        VHOST_USER_VERSION,
        encodeU64(features),
      ),
    );
    this.protocolFeatures = features;
  }

  /** `VHOST_USER_GET_QUEUE_NUM`. */
  async getQueueNum(): Promise<number> {
    return Number(u64(await this.get(FrontEndMessage.GET_QUEUE_NUM)));
  }

  /** `VHOST_USER_GET_MAX_MEM_SLOTS`. */
  async getMaxMemSlots(): Promise<number> {
    return Number(u64(await this.get(FrontEndMessage.GET_MAX_MEM_SLOTS)));
  }

  /** `VHOST_USER_SET_OWNER`. */
  setOwner(): Promise<void> {
    return this.set(FrontEndMessage.SET_OWNER);
  }

  /** `VHOST_USER_RESET_DEVICE`. */
  resetDevice(): Promise<void> {
    return this.set(FrontEndMessage.RESET_DEVICE);
  }

  /** `VHOST_USER_GET_STATUS`. */
  async getStatus(): Promise<number> {
    return Number(u64(await this.get(FrontEndMessage.GET_STATUS)));
  }

  /** `VHOST_USER_SET_STATUS`. */
  setStatus(status: number): Promise<void> {
    return this.set(FrontEndMessage.SET_STATUS, encodeU64(BigInt(status)));
  }

  /** Opens a back-end channel; an older one of this side is closed after. */
  async setBackendReqFd(): Promise<void> {
    const [ours, theirs] = UnixSocket.pair();
    const channel = new Connection(ours, this.#reactor);
    try {
      await this.set(
        FrontEndMessage.SET_BACKEND_REQ_FD,
        undefined,
        [theirs.fd],
      );
    } catch (error) {
      channel.close();
      throw error;
    } finally {
      theirs.close();
    }
    this.#channel?.close();
    this.#channel = channel;
  }

  /** The next message on the back-end channel; `null` when it was closed. */
  receiveFromChannel(): Promise<Message | null> {
    if (this.#channel === null) {
      throw new FrontEndError("There is no back-end channel");
    }
    return within(this.#channel.receive(), "message on the back-end channel");
  }

  /** Waits for the back-end to say that the configuration changed. */
  async configChange(): Promise<void> {
    using message = await this.receiveFromChannel();
    if (message?.request !== BackEndMessage.CONFIG_CHANGE_MSG) {
      throw new FrontEndError(
        `The back-end sent ${message?.request ?? "the end of the stream"} ` +
          "instead of a configuration change",
      );
    }
  }

  /**
   * Everything that QEMU does when it has connected, in its order, up to the
   * call and error descriptors of all queues.
   */
  async handshake(options: HandshakeOptions = {}): Promise<void> {
    const offered = await this.getFeatures();
    const protocol = await this.getProtocolFeatures();
    await this.setProtocolFeatures(
      protocol & (options.protocolFeatures ?? protocol),
    );
    if (this.negotiated(ProtocolFeature.MQ)) {
      this.queueCount = await this.getQueueNum();
    }
    if (this.negotiated(ProtocolFeature.CONFIGURE_MEM_SLOTS)) {
      await this.getMaxMemSlots();
    }
    if (this.negotiated(ProtocolFeature.BACKEND_REQ)) {
      await this.setBackendReqFd();
    }
    await this.setOwner();
    this.features = await this.getFeatures();
    if (this.features !== offered) {
      throw new FrontEndError("The features changed within a connection");
    }
    this.features = acceptedFeatures(offered, options);
    // That one is for the time of a migration.
    this.features &= ~LOG_ALL_BIT;
    for (let index = 0; index < this.queueCount; index++) {
      await this.setVringCall(index);
      await this.setVringErr(index);
    }
  }

  // Memory.

  /** `VHOST_USER_ADD_MEM_REG`. */
  async addMemReg(region: SharedRegion): Promise<void> {
    await this.set(
      FrontEndMessage.ADD_MEM_REG,
      encodeMemoryRegion(region.description),
      [region.fd],
    );
    this.#regions.push(region);
  }

  /**
   * `VHOST_USER_REM_MEM_REG`.
   *
   * @param withFd send the descriptor along, as some front-ends do
   */
  async remMemReg(region: SharedRegion, withFd = false): Promise<void> {
    await this.set(
      FrontEndMessage.REM_MEM_REG,
      encodeMemoryRegion(region.description),
      withFd ? [region.fd] : [],
    );
    const at = this.#regions.indexOf(region);
    if (at >= 0) this.#regions.splice(at, 1);
  }

  /** `VHOST_USER_SET_MEM_TABLE`. */
  async setMemTable(regions: readonly SharedRegion[]): Promise<void> {
    await this.set(
      FrontEndMessage.SET_MEM_TABLE,
      encodeMemoryTable(regions.map((region) => region.description)),
      regions.map((region) => region.fd),
    );
    this.#regions.splice(0, Infinity, ...regions);
  }

  /** The user address of a guest address. */
  userAddress(guestAddress: number): number {
    const region = this.#regions.find((region) =>
      guestAddress >= region.guestAddress &&
      guestAddress < region.guestAddress + region.size
    );
    const offset = region === undefined
      ? USER_OFFSET
      : region.userAddress - region.guestAddress;
    return guestAddress + offset;
  }

  // Rings.

  /** The event descriptors of a ring, made when first asked for. */
  events(index: number): RingEvents {
    let events = this.#rings.get(index);
    if (events === undefined) {
      events = {
        kick: EventFd.create(),
        call: EventFd.create(),
        error: EventFd.create(),
      };
      this.#rings.set(index, events);
    }
    return events;
  }

  /** `VHOST_USER_SET_VRING_NUM`. */
  setVringNum(index: number, num: number): Promise<void> {
    return this.set(
      FrontEndMessage.SET_VRING_NUM,
      encodeVringState({ index, num }),
    );
  }

  /** `VHOST_USER_SET_VRING_ADDR`; `log`: where to log the used ring. */
  setVringAddr(index: number, layout: RingLayout, log = -1): Promise<void> {
    return this.set(
      FrontEndMessage.SET_VRING_ADDR,
      encodeVringAddress({
        index,
        flags: log < 0 ? 0 : 1,
        descriptor: this.userAddress(layout.descriptorTable),
        used: this.userAddress(layout.usedRing),
        available: this.userAddress(layout.availableRing),
        log: BigInt(Math.max(log, 0)),
      }),
    );
  }

  /** `VHOST_USER_SET_VRING_BASE`. */
  setVringBase(index: number, num: number): Promise<void> {
    return this.set(
      FrontEndMessage.SET_VRING_BASE,
      encodeVringState({ index, num }),
    );
  }

  /** `VHOST_USER_GET_VRING_BASE`: stops the ring; its position. */
  async getVringBase(index: number): Promise<number> {
    const reply = await this.get(
      FrontEndMessage.GET_VRING_BASE,
      encodeVringState({ index, num: 0 }),
    );
    this.#started.delete(index);
    return new DataView(reply.buffer, reply.byteOffset).getUint32(4, true);
  }

  /** `VHOST_USER_SET_VRING_KICK`; -1: none, the ring is polled. */
  async setVringKick(
    index: number,
    fd: number = this.events(index).kick.fd,
  ): Promise<void> {
    await this.#setVringFd(FrontEndMessage.SET_VRING_KICK, index, fd);
    this.#started.add(index);
  }

  /** `VHOST_USER_SET_VRING_CALL`; -1: none. */
  setVringCall(
    index: number,
    fd: number = this.events(index).call.fd,
  ): Promise<void> {
    return this.#setVringFd(FrontEndMessage.SET_VRING_CALL, index, fd);
  }

  /** `VHOST_USER_SET_VRING_ERR`; -1: none. */
  setVringErr(
    index: number,
    fd: number = this.events(index).error.fd,
  ): Promise<void> {
    return this.#setVringFd(FrontEndMessage.SET_VRING_ERR, index, fd);
  }

  #setVringFd(request: number, index: number, fd: number): Promise<void> {
    const noFd = fd < 0;
    return this.set(request, encodeVringFd({ index, noFd }), noFd ? [] : [fd]);
  }

  /** `VHOST_USER_SET_VRING_ENABLE`. */
  setVringEnable(index: number, enable: boolean): Promise<void> {
    return this.set(
      FrontEndMessage.SET_VRING_ENABLE,
      encodeVringState({ index, num: enable ? 1 : 0 }),
    );
  }

  /** Size, position, addresses and kick of a ring, in QEMU's order. */
  async setupRing(
    index: number,
    layout: RingLayout,
    position = 0,
  ): Promise<void> {
    await this.setVringNum(index, layout.size);
    await this.setVringBase(index, position);
    await this.setVringAddr(index, layout);
    await this.setVringKick(index);
  }

  /**
   * Everything that QEMU does when the driver is ready, in its order: features,
   * memory, the rings that the driver configured, then all queues enabled.
   *
   * @param layouts by queue index
   */
  async start(
    regions: readonly SharedRegion[],
    layouts: ReadonlyMap<number, RingLayout>,
    options: StartOptions = {},
  ): Promise<void> {
    const status = this.negotiated(ProtocolFeature.STATUS);
    const begin = firstPosition(this.features);
    await this.setFeatures(this.features);
    if (status) await this.setStatus(await this.getStatus() | 8);
    for (let i = 0; i < this.queueCount; i++) await this.setVringCall(i);
    await this.setFeatures(this.features);
    if (this.negotiated(ProtocolFeature.CONFIGURE_MEM_SLOTS)) {
      for (const region of regions) {
        if (!this.#regions.includes(region)) await this.addMemReg(region);
      }
    } else await this.setMemTable(regions);
    for (const [index, layout] of layouts) {
      await this.setupRing(index, layout, options.positions?.[index] ?? begin);
    }
    for (let i = 0; i < this.queueCount; i++) {
      await this.setVringEnable(i, true);
    }
    if (status) await this.setStatus(0xf);
  }

  /**
   * Everything that QEMU does when the guest resets the device.
   *
   * @returns the positions of the rings that were started
   */
  async stop(): Promise<Record<number, number>> {
    for (let i = 0; i < this.queueCount; i++) {
      await this.setVringEnable(i, false);
    }
    const positions: Record<number, number> = {};
    for (const index of [...this.#started]) {
      positions[index] = await this.getVringBase(index);
    }
    if (this.negotiated(ProtocolFeature.STATUS)) await this.setStatus(0);
    if (this.negotiated(ProtocolFeature.RESET_DEVICE)) await this.resetDevice();
    return positions;
  }

  /** Tells the back-end that buffers are available. */
  kick(index: number): void {
    this.events(index).kick.signal();
  }

  /**
   * Waits until the back-end has signalled the call descriptor of a ring.
   *
   * @returns how often it did
   */
  async waitCall(index: number): Promise<number> {
    const { call } = this.events(index);
    await within(this.#reactor.readable(call.fd), `call of ring ${index}`);
    return call.drain();
  }

  // Configuration space.

  /** `VHOST_USER_GET_CONFIG`: the bytes; none when it was refused. */
  async getConfig(offset: number, size: number): Promise<Uint8Array> {
    const asked = encodeConfig(offset, 0, new Uint8Array(size));
    const reply = await this.get(FrontEndMessage.GET_CONFIG, asked);
    if (reply.length === 0) return reply;
    const head = asked.subarray(0, 12);
    if (
      reply.length !== asked.length ||
      !head.every((byte, i) => byte === reply[i])
    ) {
      throw new FrontEndError(
        `The reply to a read of ${size} bytes at ${offset} of the ` +
          `configuration space is ${reply.length} bytes: ${reply}`,
      );
    }
    return reply.subarray(12);
  }

  /** `VHOST_USER_SET_CONFIG`. */
  setConfig(offset: number, data: Uint8Array): Promise<void> {
    return this.set(
      FrontEndMessage.SET_CONFIG,
      encodeConfig(offset, 0, data),
    );
  }

  /** Leaves: closes the connection and all descriptors of this side. */
  override close(): void {
    this.#channel?.close();
    super.close();
    // Before the descriptors that somebody may still wait for.
    if (this.#ownsReactor) this.#reactor.close();
    for (const { kick, call, error } of this.#rings.values()) {
      kick.close();
      call.close();
      error.close();
    }
    this.#rings.clear();
  }
}
