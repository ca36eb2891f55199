# SPDX-License-Identifier: BSD-3-Clause
#
# Run by gnuplot -e "dir = '...'" with dir/data and dir/marks.gp.  Each plot is drawn
# for a narrow screen and for a wide one, since text must not shrink with it.  Black
# and gray are given other colours by the page's style, for dark screens.

set encoding utf8
set datafile missing "?"
load dir . "/marks.gp"
data = dir . "/data"

set style line 1 lc rgb "#3584d6" lw 2
set style line 2 lc rgb "#d9730d" lw 2
set style line 3 lc rgb "#3584d6" lw 1.3 dashtype (5, 3)
set style line 4 lc rgb "#d9730d" lw 1.3 dashtype (5, 3)
set style line 5 lc rgb "#c0392b" lw 1.5
set border 3 lc rgb "gray"
set tics nomirror scale 0.5
set grid y lc rgb "gray" lw 0.5 dashtype solid
set xrange [0:end]
set key above left Left reverse horizontal samplen 1.5 maxrows 2
set lmargin 10
set rmargin 2
set xlabel unit offset 0, 0.5

file (name, w) = sprintf ("%s/%s-%s.svg", dir, name, w)

do for [w in "360 900"] {
  set terminal svg size int (w), 240 dynamic font "sans-serif,12"

  unset logscale y
  set yrange [0:*]
  set ytics autofreq
  set format y "%g " . rate_unit
  set output file ("rates", w)
  plot data using 1:($2 / rate_scale) with lines ls 1 title "copied", \
       data using 1:($3 / rate_scale) with lines ls 2 title "made dirty"

  set yrange [*:*]
  set logscale y 2
  set ytics ("1 KiB" 2**10, "32 KiB" 2**15, "1 MiB" 2**20, "32 MiB" 2**25, \
             "1 GiB" 2**30, "32 GiB" 2.0**35, "1 TiB" 2.0**40, "32 TiB" 2.0**45)
  set output file ("remaining", w)
  plot data using 1:4 with lines ls 1 title "left to copy"

  set logscale y 10
  set ytics ("1 µs" 1e-6, "10 µs" 1e-5, "100 µs" 1e-4, "1 ms" 1e-3, "10 ms" 1e-2, \
             "100 ms" 0.1, "1 s" 1, "10 s" 10, "100 s" 100, "1000 s" 1000)
  set output file ("pause", w)
  plot data using 1:5 with lines ls 1 title "predicted", \
       data using 1:6 with lines ls 5 title "allowed"

  set output file ("latency", w)
  plot data using 1:7 with lines ls 1 title "reads", \
       data using 1:8 with lines ls 3 title "reads, 99 %", \
       data using 1:9 with lines ls 2 title "writes", \
       data using 1:10 with lines ls 4 title "writes, 99 %"
  set output
}
