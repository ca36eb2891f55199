# SPDX-License-Identifier: BSD-3-Clause
#
# How long guests wait at a cut-over: one panel for each load, the share of
# cut-overs that were not longer (report-pause.sh sets dir, loads, programs,
# picture).

columns = words(loads) < 2 ? 1 : 2
rows = (words(loads) + columns - 1) / columns
set terminal svg size 460 * columns, 60 + 300 * rows font "sans,11" \
    background "white"
set output picture
set multiplot layout rows, columns \
    title "The guest's longest wait at a cut-over"
set logscale x
set grid xtics ytics linecolor rgb "#dddddd"
set xrange [0.1:1000]
set yrange [0:103]
set xlabel "ms"
set ylabel "% of cut-overs not longer"
set key bottom right
array colours[4] = ["#4477aa", "#cc3311", "#ee7733", "#009988"]
do for [load in loads] {
  set title load
  plot for [i = 1:words(programs)] dir."/".load.":".word(programs, i) \
       using 1:2 with steps linewidth 2 linecolor rgb colours[i] \
       title word(programs, i)
}
unset multiplot
