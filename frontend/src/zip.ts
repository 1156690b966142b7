/** The table of CRC-32 (APPNOTE.TXT 4.4.7). */
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});
const MOST = 0xfffffffe;
/** Bit 11: names are UTF-8. */
const UTF8 = 0x0800;

/** Packs files into a zip, as they are: pictures do not become smaller. In memory is one of them at a time. */
export async function zipped(files: readonly File[]): Promise<Blob> {
  const parts: BlobPart[] = [];
  const listed: Uint8Array[] = [];
  let at = 0;
  for (const file of files) {
    const data = new Uint8Array(await file.arrayBuffer());
    const name = new TextEncoder().encode(file.name);
    const about = [20, UTF8, 0, 0, 0x21, crc(data), data.length, data.length, name.length, 0] as const;
    const head = bytes(30 + name.length, [[0x04034b50, 4], ...sized(about)]);
    head.set(name, 30);
    const entry = bytes(46 + name.length, [[0x02014b50, 4], [20, 2], ...sized(about), [0, 2], [0, 2], [0, 2], [0, 4], [at, 4]]);
    entry.set(name, 46);
    // The file itself, not what was read of it: the browser reads it again as it is sent.
    parts.push(head as BlobPart, file);
    listed.push(entry);
    at += head.length + data.length;
  }
  const size = listed.reduce((sum, entry) => sum + entry.length, 0);
  if (at + size > MOST || files.length > 0xfffe) throw new Error("These are more than 4 GB, or more than 65,534 files: make several datasets.");
  const n = files.length;
  const end = bytes(22, [[0x06054b50, 4], [0, 2], [0, 2], [n, 2], [n, 2], [size, 4], [at, 4], [0, 2]]);
  return new Blob([...parts, ...(listed as BlobPart[]), end as BlobPart], { type: "application/zip" });
}

function sized(about: readonly number[]): [number, number][] {
  const widths = [2, 2, 2, 2, 2, 4, 4, 4, 2, 2];
  return about.map((value, n) => [value, widths[n]!]);
}

/** Writes numbers of 2 and 4 bytes, the lowest byte first. */
function bytes(length: number, fields: readonly (readonly [number, number])[]): Uint8Array {
  const data = new Uint8Array(length);
  let at = 0;
  for (const [value, width] of fields) for (let n = 0; n < width; n++) data[at++] = (value >>> (8 * n)) & 0xff;
  return data;
}

function crc(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = TABLE[(c ^ byte) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
