/** Times, formatted for the user's locale. All are Unix times in milliseconds. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const weekdayAndDate = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const shortDate = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

const DAY = 86_400_000;

/** How many midnights are between the two. Days differ in length when clocks change, hence the rounding. */
function daysBetween(ts: number, now: number): number {
  return Math.round((new Date(now).setHours(0, 0, 0, 0) - new Date(ts).setHours(0, 0, 0, 0)) / DAY);
}

const relativeDay = (days: number): string => {
  const [first = "", ...rest] = relative.format(-days, "day");
  return first.toLocaleUpperCase() + rest.join("");
};

/** "14:05" */
export const formatTime = (ts: number): string => clock.format(ts);

/** "Sunday, 3 May 2026 at 14:05" */
export const formatMoment = (ts: number): string => full.format(ts);

/** "Today", "Yesterday", "Sunday, 3 May"; with the year if it is not the current one. */
export function formatDay(ts: number, now: number): string {
  const days = daysBetween(ts, now);
  if (days === 0 || days === 1) return relativeDay(days);
  const thisYear = new Date(ts).getFullYear() === new Date(now).getFullYear();
  return (thisYear ? weekdayAndDate : date).format(ts);
}

/** As short as possible: "14:05", "Yesterday", "Sun", "3 May", "3 May 2025". */
export function formatBriefly(ts: number, now: number): string {
  const days = daysBetween(ts, now);
  if (days <= 0) return formatTime(ts);
  if (days === 1) return relativeDay(days);
  if (days < 7) return weekday.format(ts);
  return (new Date(ts).getFullYear() === new Date(now).getFullYear() ? shortDate : date).format(ts);
}
