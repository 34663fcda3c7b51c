/**
 * The virtio network device: Ethernet frames to and from a TAP, passt, a switch
 * in memory, or back to the guest.
 *
 * @example Usage
 * ```ts ignore
 * import createNet from "./mod.ts";
 *
 * const device = createNet({ backend: "switch", name: "lan0" }, context);
 * ```
 *
 * @module
 */

import { SystemError } from "../../sys/errno.ts";
import { Tap } from "../../sys/tap.ts";
import type { DeviceContext, VirtioDevice } from "../../virtqueue/device.ts";
import type { NetBackend } from "./backend.ts";
import { CaptureBackend } from "./capture_backend.ts";
import { NetDevice } from "./device.ts";
import { EchoBackend } from "./echo.ts";
import { NetBackendError } from "./error.ts";
import {
  formatMac,
  type ResolvedNetOptions,
  resolveNetOptions,
} from "./options.ts";
import { PasstBackend } from "./passt.ts";
import { Capture } from "./pcap.ts";
import { Switch, SwitchBackend } from "./switch.ts";
import { TapBackend } from "./tap.ts";
import { Uplink, UplinkBackend } from "./uplink.ts";

export { OptionError, type OptionPlace } from "../option_reader.ts";
export type { NetOptions } from "./options.ts";

/**
 * Makes a network device: a {@linkcode CreateDevice}.
 *
 * @param options a {@linkcode NetOptions}
 * @throws {OptionError} when an option is wrong
 * @throws {NetBackendError} when the backend cannot be had
 */
export default function createNet(
  options: Readonly<Record<string, unknown>>,
  context: DeviceContext,
): VirtioDevice {
  const resolved = resolveNetOptions(options);
  const backend = captured(resolved, makeBackend(resolved, context), context);
  try {
    return new NetDevice(resolved, backend, context);
  } catch (error) {
    backend.close();
    throw error;
  }
}

function makeBackend(
  options: ResolvedNetOptions,
  context: DeviceContext,
): NetBackend {
  switch (options.backend) {
    case "echo":
      return new EchoBackend();
    case "passt":
      return new PasstBackend(options, context);
    case "tap":
      return options.tapfd >= 0 ? adoptTap(options.tapfd, context) : withTap(
        options.ifname,
        () =>
          TapBackend.open(
            options.ifname,
            options.queues,
            context,
            options.workers,
          ),
      );
    case "switch":
      return onSwitch(options, context);
  }
}

function adoptTap(fd: number, context: DeviceContext): TapBackend {
  const tap = adopt(fd);
  try {
    return new TapBackend([tap], context);
  } catch (error) {
    tap.close();
    throw error;
  }
}

function adopt(fd: number): Tap {
  try {
    return Tap.adopt(fd);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    throw new NetBackendError("tap", error.message, { cause: error });
  }
}

function onSwitch(
  { name, uplink, mac }: ResolvedNetOptions,
  context: DeviceContext,
): NetBackend {
  const target = Switch.named(name);
  const label = mac === null ? "device" : `device ${formatMac(mac)}`;
  const port = new SwitchBackend(target, label);
  if (uplink === "") return port;
  try {
    return withTap(
      uplink,
      () => new UplinkBackend(port, new Uplink(target, uplink, context)),
    );
  } catch (error) {
    port.close();
    throw error;
  }
}

function captured(
  { pcap, pcapSize }: ResolvedNetOptions,
  backend: NetBackend,
  context: DeviceContext,
): NetBackend {
  if (pcap === "") return backend;
  try {
    return new CaptureBackend(
      backend,
      new Capture(pcap, pcapSize),
      pcap,
      context,
    );
  } catch (error) {
    backend.close();
    throw error;
  }
}

/** What people can do about the errors that TAPs have most often. */
const REMEDIES: Readonly<Record<string, string>> = {
  EPERM: "run with the right to it (CAP_NET_ADMIN), or let an administrator " +
    "make it for this user: ip tuntap add NAME mode tap user USER vnet_hdr",
  ENOENT: "the kernel has no /dev/net/tun: load the module tun",
  EBUSY: "another process has it",
  EINVAL: "it exists with other flags: a TAP with vnet_hdr is needed, and " +
    "multi_queue for queues=2 and more alone",
};

function withTap<T>(name: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const remedy = REMEDIES[error.kind];
    throw new NetBackendError(
      "tap",
      `Cannot use TAP "${name}": ${error.message}` +
        (remedy === undefined ? "" : `; ${remedy}`),
      { cause: error },
    );
  }
}
