# SPDX-License-Identifier: BSD-3-Clause
#
# How fast nbdmigrate is, in units of each rival (report.sh sets data, picture).

set terminal svg size 900,520 font "sans,11" background "white"
set output picture
set datafile separator "\t"
set style fill solid 0.6
set pointintervalbox 0
set boxwidth 0.6
set grid ytics
set yrange [0:*]
set ylabel "speed of nbdmigrate, rival = 1"
set xtics rotate by 35 right scale 0
set key outside top center horizontal
set offsets 0.5, 0.5, 0, 0
set arrow from graph 0, first 1 to graph 1, first 1 nohead dashtype 2
plot data using 1:3:xticlabels(2) with boxes linecolor rgb "#4477aa" \
       title "median of the paired ratios", \
     data using 1:3:4:5 with errorbars pointtype -1 linecolor rgb "#222222" \
       title "their range", \
     data using 1:6 with points pointtype 9 pointsize 1 \
       linecolor rgb "#cc3311" title "target"
