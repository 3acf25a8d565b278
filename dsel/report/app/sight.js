// What is drawn when it comes into sight, and anew once it shows something old: {element, dirty, near}. Until then it says so.
export function spoil(item) {
  item.dirty = true;
  item.element.setAttribute("aria-busy", "true");
}

export function watchSight(items, draw) {
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const item = items.find((each) => each.element === entry.target);
        item.near = entry.isIntersecting;
        if (item.near) draw(item);
      }
    },
    { rootMargin: "400px" },
  );
  items.forEach((item) => seen.observe(item.element));
}
