/**
 * How inputs begin: parts of a good handshake, as records.
 *
 * @module
 */

/** Places of messages in the table of `messages.ts`. */
const SET_FEATURES = 1, SET_OWNER = 2, SET_MEM_TABLE = 4, SET_VRING_NUM = 5;
const SET_VRING_ADDR = 6, SET_VRING_BASE = 7, GET_VRING_BASE = 8;
const SET_VRING_KICK = 9, SET_VRING_CALL = 10, SET_VRING_ERR = 11;
const SET_PROTOCOL_FEATURES = 13, SET_VRING_ENABLE = 15;
const SET_BACKEND_REQ_FD = 16, GET_CONFIG = 17, SET_CONFIG = 18;
const GET_INFLIGHT_FD = 19, SET_INFLIGHT_FD = 20, SEND_RARP = 21;
const NET_SET_MTU = 22;
const SET_LOG_BASE = 42, SET_LOG_FD = 43;
const RESET_DEVICE = 23, ADD_MEM_REG = 25, REM_MEM_REG = 26;
const ACK = 1;

/** A record: message, flags, descriptors, a, b (two bytes). */
function record(...bytes: number[]): Uint8Array {
  const record = new Uint8Array(16);
  record.set(bytes);
  return record;
}

const NEGOTIATED = [
  record(SET_PROTOCOL_FEATURES),
  record(SET_OWNER),
  record(SET_FEATURES),
];
const RUNNING = [
  ...NEGOTIATED,
  record(ADD_MEM_REG, ACK),
  record(SET_VRING_NUM, ACK, 0, 0, 3),
  record(SET_VRING_ADDR, ACK),
  record(SET_VRING_KICK, ACK),
  record(SET_VRING_ENABLE, ACK),
];

/** With what network devices have besides: `d` is odd. */
const ALL_FEATURES = record(SET_PROTOCOL_FEATURES);
ALL_FEATURES[10] = 1;
const NETWORK = [ALL_FEATURES, record(SET_OWNER), record(SET_FEATURES)];

/** What comes before the messages of an input. */
export const BEGINNINGS: readonly (readonly Uint8Array[])[] = [
  [],
  NEGOTIATED,
  RUNNING,
  [record(SET_PROTOCOL_FEATURES)],
  NETWORK,
];

/** Requests about the configuration are answered in place of the session. */
function lent(input: Uint8Array): Uint8Array {
  input[4] |= 16;
  return input;
}

function input(beginning: number, ...records: Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(5 + 16 * records.length);
  bytes[2] = beginning;
  records.forEach((record, i) => bytes.set(record, 5 + 16 * i));
  return bytes;
}

function network(...records: Uint8Array[]): Uint8Array {
  const bytes = input(4, ...records);
  bytes[1] = 1;
  return bytes;
}

/** Inputs to begin with. */
export const SESSION_SEEDS: readonly Uint8Array[] = [
  input(0),
  input(
    2,
    record(SET_VRING_CALL, ACK),
    record(SET_VRING_ERR, ACK),
    record(SET_VRING_BASE, ACK),
    record(GET_VRING_BASE),
  ),
  input(2, record(SET_BACKEND_REQ_FD, ACK), record(RESET_DEVICE, ACK)),
  input(
    2,
    record(GET_INFLIGHT_FD, 0, 0, 1, 7),
    record(SET_INFLIGHT_FD, ACK, 0, 1, 7),
    record(SEND_RARP, ACK),
  ),
  network(record(SEND_RARP, ACK), record(NET_SET_MTU, ACK)),
  // A log of 64 bytes, logging, and no more.
  input(
    2,
    record(SET_LOG_BASE, ACK, 0, 1),
    record(SET_LOG_FD, ACK),
    record(SET_FEATURES, ACK, 0, 0x80),
    record(SET_VRING_ADDR, ACK),
    record(SET_LOG_BASE, 0, 0, 1),
    record(SET_FEATURES, ACK),
  ),
  input(2, record(SET_MEM_TABLE, ACK, 0, 2), record(REM_MEM_REG, ACK)),
  input(
    1,
    record(GET_CONFIG, 0, 0, 0, 16),
    record(SET_CONFIG, ACK, 0, 0, 1),
  ),
  lent(input(
    2,
    record(GET_CONFIG, 0, 0, 0, 16),
    record(SET_CONFIG, ACK, 0, 0, 1),
    record(SET_CONFIG, ACK, 0, 0, 1),
    record(GET_CONFIG, 0, 0, 0, 16),
    record(SET_VRING_ENABLE, ACK),
    record(GET_CONFIG, 0, 0, 0, 16),
  )),
];
