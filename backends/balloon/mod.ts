/**
 * The virtio memory balloon: gives memory that a guest can spare back to the
 * host.
 *
 * @example Usage
 * ```ts ignore
 * import createBalloon from "./mod.ts";
 *
 * const device = createBalloon({}, context);
 * ```
 *
 * @module
 */

import type { DeviceContext, VirtioDevice } from "../../virtqueue/device.ts";
import { BalloonDevice } from "./device.ts";
import { resolveBalloonOptions } from "./options.ts";
import { SYSTEM_PAGES } from "./page_host.ts";

export { OptionError, type OptionPlace } from "../option_reader.ts";
export type { BalloonOptions } from "./options.ts";

/**
 * Makes a balloon: a {@linkcode CreateDevice}.
 *
 * @param options a {@linkcode BalloonOptions}
 * @throws {OptionError} when an option is wrong
 */
export default function createBalloon(
  options: Readonly<Record<string, unknown>>,
  context: DeviceContext,
): VirtioDevice {
  return new BalloonDevice(
    resolveBalloonOptions(options),
    SYSTEM_PAGES,
    context,
  );
}
