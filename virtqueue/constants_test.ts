import { assertEquals } from "@std/assert";
import {
  featureMask,
  hasFeature,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from "./constants.ts";

Deno.test("featureMask() sets bits beyond 32", () => {
  assertEquals(featureMask(), 0n);
  assertEquals(
    featureMask(VIRTIO_F_INDIRECT_DESC, VIRTIO_F_EVENT_IDX, VIRTIO_F_VERSION_1),
    0x1_3000_0000n,
  );
  assertEquals(featureMask(VIRTIO_F_VERSION_1, VIRTIO_F_VERSION_1), 2n ** 32n);
});

Deno.test("hasFeature() looks at one bit", () => {
  const features = featureMask(0, VIRTIO_F_VERSION_1);
  assertEquals(hasFeature(features, 0), true);
  assertEquals(hasFeature(features, VIRTIO_F_VERSION_1), true);
  assertEquals(hasFeature(features, VIRTIO_F_RING_PACKED), false);
  assertEquals(hasFeature(features, 1), false);
});
