/**
 * The tests of the device once more, on packed rings with event suppression by
 * descriptor.
 */

import { ringLayout } from "../../virtqueue/testing/layout.ts";

ringLayout.packed = true;
ringLayout.eventIdx = true;

await import("./device_test.ts");
await import("./property_test.ts");
await import("./reclaim_test.ts");
await import("./statistics_test.ts");
