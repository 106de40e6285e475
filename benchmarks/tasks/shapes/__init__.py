"""Segmentation of drawn shapes: which pixels are of an ellipse?"""
