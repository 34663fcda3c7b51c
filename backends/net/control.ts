/**
 * The control queue: commands of the driver to the device.
 *
 * Theory of operation: a command is a class, a number and data that the driver
 * wrote, and a byte for the answer. Commands of features that were not
 * negotiated, unknown ones and those whose data is too short are refused.
 * Commands are answered at once: FreeBSD's driver spins until they are.
 *
 * Source: virtio 1.4, section 5.1.6.5.
 *
 * @module
 */

import type { DescriptorChain } from "../../virtqueue/chain.ts";
import { hasFeature } from "../../virtqueue/constants.ts";
import {
  CtrlClass,
  CtrlMac,
  CtrlRx,
  CtrlVlan,
  MAC_SIZE,
  NetFeature,
} from "./protocol.ts";
import { FILTER_ENTRIES, type RxFilter } from "./rx_filter.ts";

/** Bytes of class and command. */
const COMMAND_HEADER = 2;

/** What commands change beside the filter. */
export interface Controlled {
  /** Features that were negotiated. */
  readonly negotiated: bigint;
  /** Number of queue pairs of the device. */
  readonly pairs: number;
  /** The filter of received frames. */
  readonly filter: RxFilter;
  /** The driver set the address. */
  setMac(mac: Uint8Array): void;
  /** The driver said how many pairs it uses. */
  setPairs(pairs: number): void;
  /**
   * The driver said which offloads it has turned on.
   *
   * @param bits of the features that stand for them, 0 to 31
   * @returns false when it had not negotiated one of them
   */
  setGuestOffloads(bits: number): boolean;
  /** The driver announced itself. */
  announced(): void;
}

/**
 * Carries out a command.
 *
 * @returns whether it was understood and done
 */
export function runCommand(
  chain: DescriptorChain,
  device: Controlled,
): boolean {
  const kind = chain.readUint8(0), command = chain.readUint8(1);
  const has = (feature: number) => hasFeature(device.negotiated, feature);
  if (command < 0 || !has(NetFeature.CTRL_VQ)) return false;
  switch (kind) {
    case CtrlClass.RX:
      return has(
        command > CtrlRx.ALLMULTI
          ? NetFeature.CTRL_RX_EXTRA
          : NetFeature.CTRL_RX,
      ) && setMode(chain, command, device);
    case CtrlClass.MAC:
      if (command === CtrlMac.TABLE_SET) {
        return has(NetFeature.CTRL_RX) && setTables(chain, device);
      }
      return command === CtrlMac.ADDR_SET && has(NetFeature.CTRL_MAC_ADDR) &&
        setAddress(chain, device);
    case CtrlClass.VLAN:
      return has(NetFeature.CTRL_VLAN) && setVlan(chain, command, device);
    case CtrlClass.ANNOUNCE:
      if (command !== 0 || !has(NetFeature.GUEST_ANNOUNCE)) return false;
      device.announced();
      return true;
    case CtrlClass.MQ:
      return command === 0 && has(NetFeature.MQ) && setPairs(chain, device);
    case CtrlClass.GUEST_OFFLOADS:
      return command === 0 && has(NetFeature.CTRL_GUEST_OFFLOADS) &&
        setOffloads(chain, device);
    default:
      return false;
  }
}

function setMode(
  chain: DescriptorChain,
  mode: number,
  device: Controlled,
): boolean {
  const value = chain.readUint8(COMMAND_HEADER);
  if (mode > CtrlRx.NOBCAST || (value !== 0 && value !== 1)) return false;
  device.filter.setMode(mode, value === 1);
  return true;
}

/** Two tables: a 32-bit number of addresses, then these; unicast first. */
function setTables(chain: DescriptorChain, device: Controlled): boolean {
  const unicast = readTable(chain, COMMAND_HEADER);
  if (unicast === null) return false;
  const multicast = readTable(chain, unicast.end);
  if (multicast === null) return false;
  device.filter.setTable(false, unicast.addresses, unicast.count);
  device.filter.setTable(true, multicast.addresses, multicast.count);
  return true;
}

function readTable(
  chain: DescriptorChain,
  position: number,
): { count: number; addresses: Uint8Array; end: number } | null {
  const count = chain.readUint32(position);
  const end = position + 4 + count * MAC_SIZE;
  if (count < 0 || end > chain.readableLength) return null;
  // Those of a table that is too long are not looked at.
  const kept = count > FILTER_ENTRIES ? 0 : count;
  const addresses = new Uint8Array(kept * MAC_SIZE);
  if (chain.read(position + 4, addresses) !== addresses.length) return null;
  return { count, addresses, end };
}

function setAddress(chain: DescriptorChain, device: Controlled): boolean {
  const mac = new Uint8Array(MAC_SIZE);
  if (chain.read(COMMAND_HEADER, mac) !== MAC_SIZE) return false;
  device.setMac(mac);
  return true;
}

function setVlan(
  chain: DescriptorChain,
  command: number,
  device: Controlled,
): boolean {
  const id = chain.readUint16(COMMAND_HEADER);
  if (id < 0 || id > 4095) return false;
  if (command !== CtrlVlan.ADD && command !== CtrlVlan.DEL) return false;
  device.filter.setVlan(id, command === CtrlVlan.ADD);
  return true;
}

function setPairs(chain: DescriptorChain, device: Controlled): boolean {
  const pairs = chain.readUint16(COMMAND_HEADER);
  if (pairs < 1 || pairs > device.pairs) return false;
  device.setPairs(pairs);
  return true;
}

/** 64 bits, of which the first 32 stand for all offloads that there are. */
function setOffloads(chain: DescriptorChain, device: Controlled): boolean {
  const low = chain.readUint32(COMMAND_HEADER);
  const high = chain.readUint32(COMMAND_HEADER + 4);
  return low >= 0 && high === 0 && device.setGuestOffloads(low);
}
