/** Takes one out of a list, where it stands in it. */
export function drop<One>(list: One[], one: One): void {
  const place = list.indexOf(one)
  if (place >= 0) list.splice(place, 1)
}
