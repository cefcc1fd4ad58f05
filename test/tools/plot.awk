# plot.awk
#		A plot of x|y lines as text, 80 columns wide; called by test/tools/demo.
#
# height: rows; path=1: mark the first and the last point (S, E) and keep the x
# axis as it is; else x is seconds and each column shows its mean.

BEGIN { width = 68 }

{
	x[NR] = $1; y[NR] = $2
	if (NR == 1 || $1 < x_min) x_min = $1
	if (NR == 1 || $1 > x_max) x_max = $1
	if (NR == 1 || $2 < y_min) y_min = $2
	if (NR == 1 || $2 > y_max) y_max = $2
}

function column(value) {
	return x_max > x_min ? int((value - x_min) / (x_max - x_min) * (width - 1) + 0.5) : 0
}

function row(value) {
	return y_max > y_min ? int((value - y_min) / (y_max - y_min) * (height - 1) + 0.5) : 0
}

END {
	if (NR == 0) {
		print "           (the log has none)"
		exit
	}
	for (i = 1; i <= NR; i++) {
		c = column(x[i])
		if (path)
			cell[row(y[i]), c] = "*"
		else {
			sum[c] += y[i]
			n[c]++
		}
	}
	if (path) {
		cell[row(y[NR]), column(x[NR])] = "E"
		cell[row(y[1]), column(x[1])] = "S"
	}
	for (c in n)
		cell[row(sum[c] / n[c]), c] = "*"
	format = path ? "%10.5f" : "%10.1f"
	for (r = height - 1; r >= 0; r--) {
		line = ""
		for (c = 0; c < width; c++)
			line = line ((r, c) in cell ? cell[r, c] : " ")
		sub(/ +$/, "", line)
		label = r == height - 1 ? sprintf(format, y_max) : r == 0 ? sprintf(format, y_min) : sprintf("%10s", "")
		print label "|" line
	}
	printf "%10s+", ""
	for (c = 0; c < width; c++)
		printf "-"
	printf "\n"
	low = path ? sprintf("%.5f", x_min) : sprintf("%d s", x_min)
	high = path ? sprintf("%.5f", x_max) : sprintf("%d s", x_max)
	printf "%11s%s%*s\n", "", low, width - length(low), high
}
