/**
 * The virtio memory balloon, as the command knows it.
 *
 * @module
 */

import {
  BALLOON_OPTIONS,
  resolveBalloonOptions,
} from "../../backends/balloon/options.ts";
import { type DeviceType, featureMap } from "./device_type.ts";

/** The virtio memory balloon. Feature bits: virtio 1.4, section 5.5.3. */
export const BALLOON: DeviceType = {
  name: "balloon",
  title: "virtio memory balloon",
  module: new URL("../../backends/balloon/mod.ts", import.meta.url).href,
  options: BALLOON_OPTIONS,
  check: (options) => void resolveBalloonOptions(options),
  features: featureMap({
    0: "MUST_TELL_HOST",
    1: "STATS_VQ",
    2: "DEFLATE_ON_OOM",
    3: "FREE_PAGE_HINT",
    4: "PAGE_POISON",
    5: "PAGE_REPORTING",
  }),
  commands: ["balloon-set", "stats"],
  // QEMU has no balloon for vhost-user but its generic device (QEMU 10.2).
  qemu: (id) => [
    ["-device", [
      ["vhost-user-test-device-pci", null],
      ["chardev", id],
      ["virtio-id", "5"],
      ["num_vqs", "5"],
      ["vq_size", "128"],
      ["config_size", "16"],
    ]],
  ],
  ringHint: () => "a balloon has 5 queues: num_vqs=5 in QEMU",
  describe: () => "a memory balloon",
  images: () => [],
  alone:
    "QEMU does not survive the end of its process, so nothing else may end it",
  program: { type: "balloon", options: [], pairs: () => [] },
};
