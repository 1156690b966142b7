import htmx from "htmx.org";
import { confirmation } from "./dialogs";
import { gone } from "./gone";
import { keeping } from "./kept";
import { keys } from "./keys";
import { live } from "./live";
import { palette } from "./palette";
import { themeButton } from "./theme_button";
import { toasts } from "./toasts";
import { uploads } from "./uploads";

// The policy of the pages forbids eval and inline styles; nothing of a page is kept in the browser.
htmx.config.allowEval = false;
htmx.config.includeIndicatorStyles = false;
htmx.config.historyCacheSize = 0;
htmx.config.selfRequestsOnly = true;
htmx.config.defaultSettleDelay = 0;
htmx.config.defaultSwapDelay = 0;
htmx.config.defaultSwapStyle = "outerHTML";

toasts();
gone();
themeButton();
confirmation();
keys();
palette();
keeping();
live();
uploads();
