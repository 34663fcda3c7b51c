/**
 * What a front-end must not send, as a table, for tests.
 *
 * @module
 */

import {
  FrontEndMessage,
  MAX_PAYLOAD_SIZE,
  messageName,
} from "../constants.ts";
import {
  encodeInflight,
  encodeLog,
  encodeMemoryRegion,
  encodeMemoryTable,
  encodeU64,
  encodeVringAddress,
  encodeVringFd,
  encodeVringState,
} from "../message.ts";

const M = FrontEndMessage;

/** What a message leads to. */
export type Outcome = "refused" | "ignored" | "dropped";

/** A message, and what must come of it on a connection whose ring 0 runs. */
export interface HostileMessage {
  readonly name: string;
  readonly request: number;
  readonly payload?: Uint8Array;
  /** How many descriptors come along. */
  readonly fds?: number;
  /** What it leads to with, and without, a wish for an answer. */
  readonly outcome: readonly [Outcome, Outcome];
  readonly text: string;
}

const REFUSED: readonly [Outcome, Outcome] = ["refused", "dropped"];
const IGNORED: readonly [Outcome, Outcome] = ["refused", "ignored"];
const DROPPED: readonly [Outcome, Outcome] = ["dropped", "dropped"];

const region = {
  guestAddress: 0x10000,
  size: 0x10000,
  userAddress: 0x7f00_0001_0000,
  mmapOffset: 0,
};
const address = {
  index: 0,
  flags: 0,
  descriptor: 0x7f00_0001_0000,
  used: 0x7f00_0001_2000,
  available: 0x7f00_0001_1000,
  log: 0n,
};
const log = { mmapSize: 64, mmapOffset: 0 };
const area = { mmapSize: 192, mmapOffset: 0, queueCount: 1, queueSize: 8 };
const state = (index: number, num: number) => encodeVringState({ index, num });
const huge = (): Uint8Array => {
  const bytes = encodeMemoryRegion(region);
  new DataView(bytes.buffer).setBigUint64(8, ~0n, true);
  return bytes;
};

/** The table. The one ring and region are those of a `TestRing`. */
export const HOSTILE_MESSAGES: readonly HostileMessage[] = [
  // Messages of which nothing was negotiated.
  ...[19, 20, 23, 27, 29, 33, 35].map((request) => ({
    name: messageName(request),
    request,
    payload: encodeU64(0n),
    fds: 1,
    outcome: IGNORED,
    text: `Cannot serve ${messageName(request)}: it was not negotiated`,
  })),
  ...[22, 26, 28, 30, 41, 42, 43, 44, 45].map((request) => ({
    name: `${messageName(request)}, which wants a payload back`,
    request,
    payload: encodeU64(0n),
    fds: 1,
    outcome: DROPPED,
    text: `Cannot serve ${messageName(request)}: it was not negotiated`,
  })),
  ...[0, 46, 99, 0x7fff_ffff, 0xffff_ffff].map((request) => ({
    name: `message ${request}`,
    request,
    fds: 3,
    outcome: IGNORED,
    text: `Cannot serve vhost-user message ${request}: it was not negotiated`,
  })),
  // The log of written pages.
  {
    name: "SET_LOG_BASE with half a payload",
    request: M.SET_LOG_BASE,
    payload: encodeU64(0n),
    fds: 1,
    outcome: REFUSED,
    text: "payload is 8 bytes, not 16",
  },
  {
    name: "SET_LOG_BASE without a descriptor",
    request: M.SET_LOG_BASE,
    payload: encodeLog(log),
    outcome: REFUSED,
    text: "0 file descriptors came along, not 1",
  },
  {
    name: "SET_LOG_BASE with a descriptor that cannot be mapped",
    request: M.SET_LOG_BASE,
    payload: encodeLog(log),
    fds: 1,
    outcome: REFUSED,
    text: "cannot be mapped",
  },
  {
    name: "SET_LOG_BASE of nothing",
    request: M.SET_LOG_BASE,
    payload: encodeLog({ ...log, mmapSize: 0 }),
    fds: 1,
    outcome: REFUSED,
    text: "a log of 0 bytes is not from 1 to",
  },
  {
    name: "SET_LOG_BASE that ends beyond 2^53",
    request: M.SET_LOG_BASE,
    payload: encodeLog({ ...log, mmapOffset: Number.MAX_SAFE_INTEGER }),
    fds: 1,
    outcome: REFUSED,
    text: "cannot be mapped",
  },
  {
    name: "SET_LOG_FD with a payload",
    request: M.SET_LOG_FD,
    payload: encodeU64(0n),
    fds: 1,
    outcome: REFUSED,
    text: "payload is 8 bytes, not 0",
  },
  {
    name: "SET_LOG_FD without a descriptor",
    request: M.SET_LOG_FD,
    outcome: REFUSED,
    text: "0 file descriptors came along, not 1",
  },
  // Areas for requests in flight.
  {
    name: "GET_INFLIGHT_FD with half a payload",
    request: M.GET_INFLIGHT_FD,
    payload: encodeU64(0n),
    outcome: DROPPED,
    text: "payload is 8 bytes, not 20",
  },
  {
    name: "GET_INFLIGHT_FD for no queues",
    request: M.GET_INFLIGHT_FD,
    payload: encodeInflight({ ...area, queueCount: 0 }),
    outcome: DROPPED,
    text: "number of queues 0 is not from 1 to 256",
  },
  {
    name: "GET_INFLIGHT_FD with a descriptor",
    request: M.GET_INFLIGHT_FD,
    payload: encodeInflight(area),
    fds: 1,
    outcome: DROPPED,
    text: "1 file descriptors came along, more than 0",
  },
  {
    name: "SET_INFLIGHT_FD with half a payload",
    request: M.SET_INFLIGHT_FD,
    payload: encodeU64(0n),
    fds: 1,
    outcome: REFUSED,
    text: "payload is 8 bytes, not 20",
  },
  {
    name: "SET_INFLIGHT_FD without a descriptor",
    request: M.SET_INFLIGHT_FD,
    payload: encodeInflight(area),
    outcome: REFUSED,
    text: "0 file descriptors came along, not 1",
  },
  {
    name: "SET_INFLIGHT_FD with a descriptor that cannot be mapped",
    request: M.SET_INFLIGHT_FD,
    payload: encodeInflight(area),
    fds: 1,
    outcome: REFUSED,
    text: "cannot be mapped",
  },
  {
    name: "SET_INFLIGHT_FD with an area that is too small",
    request: M.SET_INFLIGHT_FD,
    payload: encodeInflight({ ...area, mmapSize: 1 }),
    fds: 1,
    outcome: REFUSED,
    text: "an area of 1 bytes is less than the 192 of 1 queues of 8",
  },
  {
    name: "SET_INFLIGHT_FD with queues beyond counting",
    request: M.SET_INFLIGHT_FD,
    payload: encodeInflight({ ...area, queueCount: 65535, queueSize: 65535 }),
    fds: 1,
    outcome: REFUSED,
    text: "number of queues 65535 is not from 1 to 256",
  },
  {
    name: "SET_INFLIGHT_FD with an offset beyond counting",
    request: M.SET_INFLIGHT_FD,
    payload: new Uint8Array(20).fill(0xff),
    fds: 1,
    outcome: REFUSED,
    text: "mmap size 0xffffffffffffffff is not below 2^53",
  },
  // Descriptors where none belong.
  ...[M.SET_OWNER, M.RESET_OWNER, M.RESET_DEVICE].map((request) => ({
    name: `${messageName(request)} with descriptors`,
    request,
    fds: 2,
    outcome: REFUSED,
    text: "2 file descriptors came along, more than 0",
  })),
  ...[M.GET_FEATURES, M.GET_PROTOCOL_FEATURES, M.GET_QUEUE_NUM, M.GET_STATUS]
    .map((request) => ({
      name: `${messageName(request)} with descriptors`,
      request,
      fds: 2,
      outcome: DROPPED,
      text: `${messageName(request)}: 2 file descriptors came along`,
    })),
  {
    name: "SET_VRING_NUM with 253 descriptors",
    request: M.SET_VRING_NUM,
    payload: state(0, 8),
    fds: 253,
    outcome: REFUSED,
    text: "253 file descriptors came along, more than 0",
  },
  {
    name: "SET_VRING_KICK with two descriptors",
    request: M.SET_VRING_KICK,
    payload: encodeVringFd({ index: 0, noFd: false }),
    fds: 2,
    outcome: REFUSED,
    text: "2 file descriptors came along, more than 1",
  },
  {
    name: "SET_VRING_KICK without a descriptor",
    request: M.SET_VRING_KICK,
    payload: encodeVringFd({ index: 0, noFd: false }),
    outcome: REFUSED,
    text: "0 file descriptors came along, not 1",
  },
  ...[M.SET_VRING_KICK, M.SET_VRING_CALL, M.SET_VRING_ERR].map((request) => ({
    name: `${messageName(request)} with both flag and descriptor`,
    request,
    payload: encodeVringFd({ index: 0, noFd: true }),
    fds: 1,
    outcome: REFUSED,
    text: "came along with the invalid-fd flag",
  })),
  {
    name: "SET_VRING_CALL of a ring that is not there",
    request: M.SET_VRING_CALL,
    payload: encodeU64(1n),
    fds: 1,
    outcome: REFUSED,
    text: "ring index 1 is not below 1",
  },
  {
    name: "SET_VRING_KICK with an index that is 0 in its low 32 bits",
    request: M.SET_VRING_KICK,
    payload: encodeU64(1n << 32n),
    fds: 1,
    outcome: REFUSED,
    text: "payload 0x100000000 has bits beyond",
  },
  {
    name: "SET_BACKEND_REQ_FD without a descriptor",
    request: M.SET_BACKEND_REQ_FD,
    outcome: REFUSED,
    text: "0 file descriptors came along, not 1",
  },
  {
    name: "SET_BACKEND_REQ_FD with an eventfd",
    request: M.SET_BACKEND_REQ_FD,
    fds: 1,
    outcome: REFUSED,
    text: "VHOST_USER_SET_BACKEND_REQ_FD",
  },
  // Payloads of the wrong size.
  ...[M.SET_FEATURES, M.SET_VRING_NUM, M.SET_VRING_BASE, M.SET_VRING_ENABLE]
    .map((request) => ({
      name: `${messageName(request)} without a payload`,
      request,
      outcome: REFUSED,
      text: "payload is 0 bytes, not 8",
    })),
  ...[M.GET_FEATURES, M.GET_MAX_MEM_SLOTS, M.GET_STATUS].map((request) => ({
    name: `${messageName(request)} with a payload`,
    request,
    payload: new Uint8Array(8),
    outcome: DROPPED,
    text: "payload is 8 bytes, not 0",
  })),
  {
    name: "GET_VRING_BASE without a payload",
    request: M.GET_VRING_BASE,
    outcome: DROPPED,
    text: "payload is 0 bytes, not 8",
  },
  {
    name: "GET_VRING_BASE of a ring that is not there",
    request: M.GET_VRING_BASE,
    payload: state(7, 0),
    outcome: DROPPED,
    text: "VHOST_USER_GET_VRING_BASE: ring index 7 is not below 1",
  },
  {
    name: "GET_CONFIG whose sizes disagree",
    request: M.GET_CONFIG,
    payload: new Uint8Array(40),
    outcome: DROPPED,
    text: "payload is 40 bytes, not 12",
  },
  {
    name: "SET_CONFIG that is cut off",
    request: M.SET_CONFIG,
    payload: new Uint8Array(11),
    outcome: REFUSED,
    text: "payload is 11 bytes, less than 12",
  },
  {
    name: "the largest payload, for a message that has none",
    request: M.SET_OWNER,
    payload: new Uint8Array(MAX_PAYLOAD_SIZE),
    outcome: REFUSED,
    text: `payload is ${MAX_PAYLOAD_SIZE} bytes, not 0`,
  },
  // Memory.
  {
    name: "SET_MEM_TABLE that counts to 2^32-1",
    request: M.SET_MEM_TABLE,
    payload: new Uint8Array(8).fill(0xff),
    outcome: REFUSED,
    text: "payload is 8 bytes, not 137438953448",
  },
  {
    name: "SET_MEM_TABLE with more descriptors than regions",
    request: M.SET_MEM_TABLE,
    payload: encodeMemoryTable([region]),
    fds: 2,
    outcome: REFUSED,
    text: "2 file descriptors came along with 1 regions",
  },
  {
    name: "ADD_MEM_REG of an eventfd",
    request: M.ADD_MEM_REG,
    payload: encodeMemoryRegion({ ...region, guestAddress: 0, userAddress: 0 }),
    fds: 1,
    outcome: REFUSED,
    text: "cannot be mapped",
  },
  {
    name: "ADD_MEM_REG over what is there",
    request: M.ADD_MEM_REG,
    payload: encodeMemoryRegion(region),
    fds: 1,
    outcome: REFUSED,
    text: "overlaps another region",
  },
  {
    name: "ADD_MEM_REG at 2^64-1",
    request: M.ADD_MEM_REG,
    payload: huge(),
    fds: 1,
    outcome: REFUSED,
    text: "guest address 0xffffffffffffffff is not below 2^53",
  },
  {
    name: "ADD_MEM_REG of nothing",
    request: M.ADD_MEM_REG,
    payload: encodeMemoryRegion({ ...region, size: 0 }),
    fds: 1,
    outcome: REFUSED,
    text: "is empty",
  },
  {
    name: "REM_MEM_REG of what is not there",
    request: M.REM_MEM_REG,
    payload: encodeMemoryRegion({ ...region, size: 0x8000 }),
    fds: 1,
    outcome: IGNORED,
    text: "there is no region of 32768 bytes at guest address 0x10000",
  },
  {
    name: "REM_MEM_REG with two descriptors",
    request: M.REM_MEM_REG,
    payload: encodeMemoryRegion(region),
    fds: 2,
    outcome: REFUSED,
    text: "2 file descriptors came along, more than 1",
  },
  // Values.
  {
    name: "SET_FEATURES of what was not offered",
    request: M.SET_FEATURES,
    payload: encodeU64(1n << 25n | 1n << 33n),
    outcome: REFUSED,
    text: "feature bits 25, 33 were not offered",
  },
  {
    name: "SET_PROTOCOL_FEATURES of what was not offered",
    request: M.SET_PROTOCOL_FEATURES,
    payload: encodeU64(1n << 14n),
    outcome: REFUSED,
    text: "protocol features INBAND_NOTIFICATIONS were not offered",
  },
  {
    name: "SET_VRING_NUM of 0",
    request: M.SET_VRING_NUM,
    payload: state(0, 0),
    outcome: REFUSED,
    text: "ring size 0 is not a power of two",
  },
  {
    name: "SET_VRING_NUM under a running ring",
    request: M.SET_VRING_NUM,
    payload: state(0, 16),
    outcome: REFUSED,
    text: "ring 0 is running",
  },
  {
    name: "SET_VRING_BASE of 65536",
    request: M.SET_VRING_BASE,
    payload: state(0, 65536),
    outcome: REFUSED,
    text: "available index 65536 does not fit 16 bits",
  },
  {
    name: "SET_VRING_ADDR that is not aligned",
    request: M.SET_VRING_ADDR,
    payload: encodeVringAddress({ ...address, used: address.used + 2 }),
    outcome: REFUSED,
    text: "is not a multiple of 4",
  },
  {
    name: "SET_STATUS of 256",
    request: M.SET_STATUS,
    payload: encodeU64(256n),
    outcome: REFUSED,
    text: "device status 0x100 does not fit 8 bits",
  },
];
