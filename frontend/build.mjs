// Writes the Studio's front-end files into studio/promptlab_studio/static: names with the hash of their content, so
// that browsers may keep them for ever, and manifest.json with what each is called.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = join(here, "..", "studio", "promptlab_studio", "static");

mkdirSync(out, { recursive: true });
for (const name of readdirSync(out)) if (name !== ".gitkeep") rmSync(join(out, name), { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/app.ts", "src/theme.ts", "src/studio.css", "src/icon.svg"],
  outdir: out,
  entryNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome123", "firefox120", "safari17.5"],
  loader: { ".svg": "copy" },
  legalComments: "inline",
  metafile: true,
  logLevel: "warning",
});

const manifest = {};
for (const [file, { entryPoint, bytes }] of Object.entries(result.metafile.outputs)) {
  if (!entryPoint && !file.endsWith(".svg")) continue;
  const source = entryPoint ? basename(entryPoint) : "icon.svg";
  manifest[source.replace(/\.ts$/, ".js")] = basename(file);
  console.log(`${basename(file)}  ${bytes} bytes`);
}
writeFileSync(join(out, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
